"""Binance's public bulk files, read in constant memory: trades and aggTrades, csv or zip, header or none, ms or µs.

Klines are read by app.wire.binance_kline_files, by the same lines.

Layouts as https://github.com/binance/binance-public-data describes them (spot):
aggTrades `agg id, price, quantity, first id, last id, time, buyer is maker, best match`,
trades `id, price, quantity, quote quantity, time, buyer is maker, best match`.

A block of lines is parsed by columns; only where something in it is odd is it read again line by line, which finds
the bad line and its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.batching import batches_of
from app.domain.trades import LIMIT, Trade, TradeBatch, e8
from app.errors import BadFile, WireError
from app.wire.binance_bulk import Lines, OnBad, members

MS_RANGE = (1_230_768_000_000, 4_102_444_800_000)  # 2009 to 2100: in ms and in µs they never meet
FLAGS = {text: text.lower() in ("true", "1") for text in ("True", "true", "TRUE", "1", "False", "false", "FALSE", "0")}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of one kind of bulk file are, and what its well-formed lines look like."""

    name: str
    columns: int
    first: int
    last: int
    time: int
    buyer_is_maker: int
    lines: re.Pattern[str]


_INT, _AMOUNT, _FLAG = r"[0-9]{1,18}", r"[0-9]{1,18}(?:\.[0-9]{1,8})?", rf"(?:{'|'.join(FLAGS)})"


def _pattern(*columns: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{','.join(columns)}\n)+")


AGG_TRADES = Layout("aggTrades", 8, 3, 4, 5, 6, _pattern(_INT, _AMOUNT, _AMOUNT, _INT, _INT, _INT, _FLAG, _FLAG))
TRADES = Layout("trades", 7, 0, 0, 4, 5, _pattern(_INT, _AMOUNT, _AMOUNT, _AMOUNT, _INT, _FLAG, _FLAG))
_HEADERS = {"agg_trade_id": AGG_TRADES, "aggregate_trade_id": AGG_TRADES, "id": TRADES, "trade_id": TRADES}
_FIXED = re.compile(r"(?:[0-9]+\.[0-9]{8},)+")  # the exchange's own way to write a price or size


def read_batches(
    path: Path, instrument_id: int, *, most: int, on_bad: OnBad | None = None, until_us: int = MS_RANGE[1] * 1000
) -> Iterator[TradeBatch]:
    """The file's trades in batches of at most `most`, each sorted by first id, without a mark.

    Raises BadFile at the first bad row; with `on_bad` a bad row is handed to it and left out. A trade at `until_us` or
    later is a bad row: it cannot have been. A file that cannot be read, is damaged, empty or of another kind raises
    BadFile in any case.
    """
    for name, lines in members(path):
        yield from _read_lines(name, lines, instrument_id, most=most, on_bad=on_bad, until_us=until_us)


def _read_lines(
    path: str, blocks: Iterator[Lines], instrument_id: int, *, most: int, on_bad: OnBad | None, until_us: int
) -> Iterator[TradeBatch]:
    layout: Layout | None = None
    for lines in blocks:
        texts, number = lines.texts, lines.start
        while texts and layout is None:  # the first line that is not blank says what the file is
            if texts[0].strip():
                layout, is_header = _recognise(path, number, texts[0])
                if not is_header:
                    break
            texts, number = texts[1:], number + 1
        for start in range(0, len(texts), most):
            assert layout is not None
            part = Lines(number + start, texts[start : start + most])
            yield from _parse(path, layout, part, instrument_id, on_bad=on_bad, until_us=until_us)
    if layout is None:
        raise BadFile(path, "the file is empty")


def _recognise(path: str, number: int, text: str) -> tuple[Layout, bool]:
    """(layout, whether this first line is a header)."""
    fields = [field.strip().lower() for field in text.split(",")]
    if fields[0] == "open_time" or len(fields) == 12:
        reason = "a klines file must say its symbol and timeframe in its name, as BTCUSDT-1m-2024-01.zip does"
        raise BadFile(path, reason, line=number)
    if fields[0] in _HEADERS and "price" in fields:
        return _HEADERS[fields[0]], True
    for layout in (AGG_TRADES, TRADES):
        if len(fields) == layout.columns and fields[layout.buyer_is_maker] in FLAGS:
            return layout, False
    raise BadFile(
        path,
        f"not a Binance spot bulk file: {len(fields)} columns of another kind, where aggTrades has "
        f"{AGG_TRADES.columns} and trades {TRADES.columns}",
        line=number,
    )


def _parse(
    path: str, layout: Layout, lines: Lines, instrument_id: int, *, on_bad: OnBad | None, until_us: int
) -> Iterator[TradeBatch]:
    batch = _by_columns(layout, lines.texts, instrument_id, until_us=until_us)
    if batch is not None:
        yield _sorted(batch)
        return
    trades: list[Trade] = []
    for number, text in enumerate(lines.texts, lines.start):
        if not text.strip():
            continue
        try:
            trades.append(_parse_row(layout, text, instrument_id, until_us=until_us))
        except ValueError as error:
            bad = BadFile(path, str(error), line=number)
            if on_bad is None:
                raise bad from None
            on_bad(bad)
    yield from (_sorted(batch) for batch in batches_of(trades, max(1, len(trades))))


def _sorted(batch: TradeBatch) -> TradeBatch:
    steps = np.diff(batch.first)
    return batch if (steps >= 0).all() else batch.take(np.argsort(batch.first, kind="stable"))


def _by_columns(layout: Layout, texts: list[str], instrument_id: int, *, until_us: int) -> TradeBatch | None:
    """The lines as one batch, or None where any of them needs a closer look."""
    body = "\n".join([*texts, ""])
    if not layout.lines.fullmatch(body):
        return None
    flat = body.replace("\n", ",").split(",")
    columns = [flat[i : len(texts) * layout.columns : layout.columns] for i in range(layout.columns)]
    try:
        first, last, time = (_ints(columns[i]) for i in (layout.first, layout.last, layout.time))
        price, size = (np.array(_units(columns[i]), np.int64) for i in (1, 2))
    except OverflowError:
        return None
    taker_buy = np.array([not FLAGS[text] for text in columns[layout.buyer_is_maker]], np.bool_)
    in_ms = time < MS_RANGE[1]
    time_us = np.where(in_ms, time * in_ms * 1000, time)
    fits = (price > 0) & (price <= LIMIT) & (size > 0) & (size <= LIMIT) & (last >= first)
    fits &= (time_us >= MS_RANGE[0] * 1000) & (time_us < min(until_us, MS_RANGE[1] * 1000))
    if not fits.all():
        return None
    ids = np.full(len(texts), instrument_id, np.int64)
    return TradeBatch(ids, time_us, first, last, price, size, taker_buy)


def _ints(texts: list[str]) -> NDArray[np.int64]:
    return np.array([int(text) for text in texts], np.int64)


def _units(texts: list[str]) -> list[int]:
    joined = ",".join(texts) + ","
    if _FIXED.fullmatch(joined):
        return [int(text) for text in joined.replace(".", "")[:-1].split(",")]
    return [e8(text) for text in texts]


def _parse_row(layout: Layout, text: str, instrument_id: int, *, until_us: int) -> Trade:
    """The trade of one line; raises ValueError saying what is wrong with it."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != layout.columns:
        raise ValueError(f"{len(fields)} columns where {layout.name} has {layout.columns}")
    _integer(fields[0], "id")
    first, last = _integer(fields[layout.first], "first id"), _integer(fields[layout.last], "last id")
    if last < first:
        raise ValueError(f"last id {last} is before first id {first}")
    if layout is TRADES:
        _amount(fields[3], "quote quantity", at_least=0)
    if fields[-1] not in FLAGS:
        raise ValueError(f"best match is {fields[-1]!r}, neither True nor False")
    maker = fields[layout.buyer_is_maker]
    if maker not in FLAGS:
        raise ValueError(f"buyer is maker is {maker!r}, neither True nor False")
    price = _amount(fields[1], "price")
    if price > LIMIT:
        raise ValueError(f"price {fields[1]} is too big")
    size, time_us = _amount(fields[2], "quantity"), _time_us(fields[layout.time])
    if time_us >= until_us:
        raise ValueError(f"time {fields[layout.time]} is in the future")
    trade = Trade(instrument_id, time_us, first, last, price, size, not FLAGS[maker])
    try:
        TradeBatch.of([trade])
    except WireError as error:
        raise ValueError(f"quantity {fields[2]} is too big") from error
    return trade


def _integer(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{name} is {text!r}, not a whole number")
    return int(text)


def _amount(text: str, name: str, at_least: int = 1) -> int:
    try:
        units = e8(text)
    except ValueError:
        reason = "negative" if re.fullmatch(r"-[0-9.]+", text) else "not a plain decimal of at most 8 places"
        raise ValueError(f"{name} is {text!r}, {reason}") from None
    if units < at_least:
        raise ValueError(f"{name} is {text}, not above zero")
    return units


def _time_us(text: str) -> int:
    time = _integer(text, "time")
    for unit in (1000, 1):
        if MS_RANGE[0] * 1000 <= time * unit < MS_RANGE[1] * 1000:
            return time * unit
    raise ValueError(f"time {text} is neither ms nor µs between 2009 and 2100")
