"""Recorded trades: Binance's public bulk files (aggTrades or trades, csv or zip) as a tape of raw trades.

An aggregate trade becomes its last - first + 1 raw trades: same price, time and side, the quantity split at random
but the same for the same seed, in the quantity's own decimals where it can be, never to zero where that is possible.
"""

from __future__ import annotations

import csv
import io
import random
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.domain.trades import e8
from app.errors import BadFile
from app.sandbox.catalogue import split_wire
from app.sandbox.tape import FAR_US, Columns, Row, Spec, columns_of

MAX_TRADES = 10_000_000  # 41 bytes each in memory
_NAME = re.compile(r"([A-Z0-9]+)-(aggTrades|trades)-.+\.(csv|zip)")


class RecordedTape:
    """The trades of one symbol as they were recorded."""

    def __init__(self, spec: Spec, columns: Columns) -> None:
        self._spec, self._columns = spec, columns

    @property
    def spec(self) -> Spec:
        """The symbol's names and decimals."""
        return self._spec

    @property
    def span_us(self) -> tuple[int, int]:
        """The times of the first and the last trade."""
        return int(self._columns.time_us[0]), int(self._columns.time_us[-1])

    def until(self, end_us: int) -> RecordedTape:
        """The same tape without the trades from `end_us` on."""
        return RecordedTape(self._spec, self._columns.window(0, end_us))

    def block(self, time_us: int) -> tuple[Columns, int, int]:
        """All trades, the start and the end of time."""
        return self._columns, 0, FAR_US

    def floor_us(self, trade_id: int) -> int:
        """The time of the first trade numbered `trade_id` or higher, or of the last."""
        at = int(np.searchsorted(self._columns.id, trade_id))
        return int(self._columns.time_us[min(at, len(self._columns) - 1)])

    def last_ids(self, time_us: int) -> tuple[int, int]:
        """The numbers of the last raw and aggregate trade at or before `time_us`."""
        at = int(np.searchsorted(self._columns.time_us, time_us, side="right"))
        if not at:
            return int(self._columns.id[0]) - 1, int(self._columns.agg[0]) - 1
        return int(self._columns.id[at - 1]), int(self._columns.agg[at - 1])

    def first_id(self, agg: int) -> int:
        """The first raw trade of aggregate trade `agg`."""
        at = int(np.searchsorted(self._columns.agg, agg))
        return int(self._columns.id[min(at, len(self._columns) - 1)])


class Print(NamedTuple):
    """One line of a bulk file: an aggregate of the trades first..last."""

    agg: int
    price: int
    size: int
    first: int
    last: int
    time_us: int
    maker: bool


def load_tapes(paths: Iterable[Path], *, seed: int) -> list[RecordedTape]:
    """One tape a symbol from files named like XRPETH-aggTrades-2019-10-11.zip; raises BadFile."""
    files: dict[str, list[tuple[Path, str]]] = {}
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise BadFile(str(path), "its name is not like BTCUSDT-aggTrades-2024-01-01.zip or …-trades-….csv")
        files.setdefault(match[1], []).append((path, match[2]))
    return [_load(wire, listed, seed) for wire, listed in sorted(files.items())]


def _load(wire: str, files: list[tuple[Path, str]], seed: int) -> RecordedTape:
    prints: dict[int, Print] = {}
    for path, kind in files:
        prints.update((one.first, one) for one in _read(path, kind))
    rows = [row for first in sorted(prints) for row in split_print(prints[first], seed=seed)]
    if not rows:
        raise BadFile(str(files[0][0]), "holds no trades")
    if len(rows) > MAX_TRADES:
        raise BadFile(str(files[0][0]), f"more than {MAX_TRADES:,} trades to replay at once")
    places = _decimals({row.price for row in rows}), _decimals({row.size for row in rows})
    return RecordedTape(Spec(*split_wire(wire), *places), columns_of(rows))


def _read(path: Path, kind: str) -> Iterator[Print]:
    line = 0
    try:
        with _open(path) as text:
            for line, row in enumerate(csv.reader(text), 1):
                if line == 1 and row and not row[0].isdigit():
                    continue  # a header, which newer files have
                yield _print(row, kind)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, ValueError, IndexError) as error:
        raise BadFile(str(path), str(error), line=line or None) from error


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".csv":
        return path.open(encoding="utf-8", newline="")
    archive = zipfile.ZipFile(path)
    return io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8", newline="")


def _print(row: list[str], kind: str) -> Print:
    if kind == "aggTrades":
        agg, price, size, first, last, time, maker = row[:7]
    else:
        agg, price, size, _, time, maker = row[:6]
        first = last = agg
    number = int(time)
    time_us = number if number > 10**14 else number * 1000
    return Print(int(agg), e8(price), e8(size), int(first), int(last), time_us, maker.lower() == "true")


def split_print(one: Print, *, seed: int) -> list[Row]:
    """The raw trades of an aggregate one."""
    sizes = split_size(one.size, one.last - one.first + 1, key=f"{seed}:{one.agg}")
    return [Row(one.time_us, one.first + k, one.agg, one.price, size, one.maker) for k, size in enumerate(sizes)]


def split_size(size: int, parts: int, *, key: str) -> list[int]:
    """`size` (1e-8 units) as `parts` positive numbers of that sum; zeros only where there are too few units."""
    if parts == 1:
        return [size]
    unit = 10**8
    while unit > 1 and (size % unit or size // unit < parts):
        unit //= 10
    units = size // unit
    if units < parts:
        return [unit] * units + [0] * (parts - units)
    cuts = sorted(random.Random(key).sample(range(1, units), parts - 1))
    return [(hi - lo) * unit for lo, hi in zip([0, *cuts], [*cuts, units], strict=True)]


def _decimals(values: set[int]) -> int:
    return next((places for places in range(8) if all(value % 10 ** (8 - places) == 0 for value in values)), 8)
