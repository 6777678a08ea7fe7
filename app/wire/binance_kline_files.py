"""Binance's bulk files of klines, read in constant memory: csv or zip, header or none, ms or µs.

Layout as https://github.com/binance/binance-public-data describes it (spot), the same as of `GET /api/v3/klines`:
`open time, open, high, low, close, volume, close time, quote volume, count, taker buy volume, taker buy quote volume,
ignore`. The file's name says symbol and timeframe: BTCUSDT-1m-2024-01.zip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.domain.bar_columns import BarColumns
from app.domain.timeframes import Timeframe
from app.errors import BadFile, WireError
from app.wire.binance_bulk import Lines, OnBad, members
from app.wire.binance_files import MS_RANGE
from app.wire.binance_klines import COLUMNS, parse_columns

_NAME = re.compile(r"([A-Z0-9]{2,40})-([0-9]{1,2}(?:s|m|h|d|w|mo|M))-[0-9]{4}-[0-9]{2}.*\.(?:csv|zip)", re.IGNORECASE)
_INTEGER = re.compile(r"[0-9]{1,18}")
_AMOUNT = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_AMOUNTS = {1: "open", 2: "high", 3: "low", 4: "close", 5: "volume", 7: "quote volume", 9: "taker buy volume"}
_INTEGERS = {0: "open time", 6: "close time", 8: "count"}


class KlineName(NamedTuple):
    """What the name of a klines file says."""

    wire_symbol: str
    timeframe: Timeframe


def kline_name(path: Path) -> KlineName | None:
    """What the file's name says, None where it is no klines file's; raises BadFile for a timeframe we do not have."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    try:
        return KlineName(match[1].upper(), Timeframe(match[2]))
    except ValueError:
        known = ", ".join(tf.value for tf in Timeframe)
        raise BadFile(str(path), f"klines of {match[2]}, where there are {known}") from None


def read_klines(
    path: Path, instrument_id: int, tf: Timeframe, *, most: int, on_bad: OnBad | None = None
) -> Iterator[BarColumns]:
    """The file's bars, at most `most` at a time, each time once and oldest first in each.

    Raises BadFile at the first bad row; with `on_bad` a bad row is handed to it and left out. A file that cannot be
    read, is damaged, empty or of another kind raises BadFile in any case.
    """
    for name, blocks in members(path):
        rows = 0
        for lines in blocks:
            for start in range(0, len(lines.texts), most):
                part = Lines(lines.start + start, lines.texts[start : start + most])
                columns = _parse(name, part, instrument_id, tf, on_bad)
                rows += len(part.texts)
                if len(columns):
                    yield columns
        if not rows:
            raise BadFile(name, "the file is empty")


def _parse(path: str, lines: Lines, instrument_id: int, tf: Timeframe, on_bad: OnBad | None) -> BarColumns:
    rows = [text.split(",") for text in lines.texts]
    columns = _by_columns(rows, instrument_id, tf)
    if columns is not None:
        return columns
    good: dict[int, list[Any]] = {}
    for number, text in enumerate(lines.texts, lines.start):
        if not text.strip() or (number == 1 and text.lower().startswith("open_time")):
            continue
        try:
            row = _row(text, tf)
            if row[0] in good:
                raise ValueError(f"the bar of open time {row[0]} came before")
            good[row[0]] = row
        except ValueError as error:
            bad = BadFile(path, str(error), line=number)
            if on_bad is None:
                raise bad from None
            on_bad(bad)
    return parse_columns([good[time] for time in sorted(good)], instrument_id)


def _by_columns(rows: list[list[str]], instrument_id: int, tf: Timeframe) -> BarColumns | None:
    """All rows at once, or None where any of them needs a closer look."""
    try:
        numbers: list[list[Any]] = [
            [int(row[0]), *row[1:6], int(row[6]), row[7], int(row[8]), *row[9:]] for row in rows if len(row) == COLUMNS
        ]
        if len(numbers) < len(rows):
            return None
        columns = parse_columns(numbers, instrument_id)
    except (ValueError, WireError):
        return None
    open_, high, low, close, volume, taker = (
        np.array(column, np.float64)
        for column in (columns.open, columns.high, columns.low, columns.close, columns.volume, columns.taker_buy_volume)
    )
    time_us, end_us = np.array(columns.open_time), np.array(columns.close_time)
    fits = (low > 0) & (low <= np.minimum(open_, close)) & (high >= np.maximum(open_, close)) & (taker <= volume)
    fits &= (time_us % (tf.ms * 1000) == 0) & (end_us == time_us + tf.ms * 1000 - 1)
    fits &= (time_us >= MS_RANGE[0] * 1000) & (time_us < MS_RANGE[1] * 1000)
    return columns if fits.all() else None


def _row(text: str, tf: Timeframe) -> list[Any]:
    """The row of one line; raises ValueError saying what is wrong with it."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != COLUMNS:
        raise ValueError(f"{len(fields)} columns where klines have {COLUMNS}")
    for place, name in _INTEGERS.items():
        if not _INTEGER.fullmatch(fields[place]):
            raise ValueError(f"{name} is {fields[place]!r}, not a whole number")
    for place, name in _AMOUNTS.items():
        if not _AMOUNT.fullmatch(fields[place]):
            raise ValueError(f"{name} is {fields[place]!r}, not a plain decimal")
    open_, high, low, close, volume = map(float, fields[1:6])
    if low <= 0:
        raise ValueError(f"low is {fields[3]}, not above zero")
    if not low <= min(open_, close) <= max(open_, close) <= high:
        raise ValueError(f"open {fields[1]} or close {fields[4]} is not between low {fields[3]} and high {fields[2]}")
    if float(fields[9]) > volume:
        raise ValueError(f"taker buy volume {fields[9]} is above volume {fields[5]}")
    _check_times(int(fields[0]), int(fields[6]), tf)
    return [int(fields[0]), *fields[1:6], int(fields[6]), fields[7], int(fields[8]), *fields[9:]]


def _check_times(start: int, end: int, tf: Timeframe) -> None:
    unit = next((unit for unit in (1000, 1) if MS_RANGE[0] * 1000 <= start * unit < MS_RANGE[1] * 1000), None)
    if unit is None:
        raise ValueError(f"open time {start} is neither ms nor µs between 2009 and 2100")
    length = tf.ms * 1000 // unit
    if start % length:
        raise ValueError(f"open time {start} is not the start of a {tf.value} bar")
    if end != start + length - 1:
        raise ValueError(f"close time {end} is not the end of the {tf.value} bar of {start}")
