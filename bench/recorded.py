"""A month of minutes of 50 symbols out of recorded ones, for what depends on the values: compression above all.

Sources: three days of XRP/ETH trades (Binance, 2,469 minutes with trades, 1,091 silent) and of BTC/USD seconds
(Coinbase). Each symbol runs through one of the two again and again from a place of its own. Where a run begins anew the
prices go on from the last close, a whole number of ticks away, so the level wanders as it does; sizes keep their
digits, two of three symbols have the decimal point one or two places further. Quote volumes are computed anew to their
8 decimals. What the seconds do not say is made up so that it compresses no better than real values: milliseconds
are drawn, each second counts as one trade (there were more), volume of rising seconds is the taker's.
A batch of the columnstore holds 1,000 minutes of one symbol: what comes again after three days is in another one.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from app.config import ROOT
from app.domain.timeframes import MINUTE_MS

DATA = ROOT.parent / "shared" / "data"
XRP_DAYS = ("2019-10-11", "2019-10-12", "2019-10-13")
BTC_DAYS = ("20161007", "20161008", "20161009")
SYMBOLS, MINUTES = 50, 30 * 1440
EPOCH, E8, PAGE = datetime(1970, 1, 1, tzinfo=UTC), 10**8, 2_500  # bars that a transaction of a backfill stores


class Print(NamedTuple):
    """Trades at one place of time: prices in ticks, size in 1e-8."""

    time_ms: int
    open: int
    high: int
    low: int
    close: int
    size: int
    taker: bool
    trades: int


class Minute(NamedTuple):
    """A recorded minute: prices in ticks, sizes in 1e-8, times in ms after its start; `value` is Σ ticks × size."""

    open: int
    high: int
    low: int
    close: int
    size: int
    value: int
    taker: int
    trades: int
    first_ms: int
    last_ms: int


class Source(NamedTuple):
    """A recorded series without holes; a silent minute has no trades and the close before it."""

    tick_e8: int
    minutes: Sequence[Minute]


def sources(data: Path = DATA) -> list[Source]:
    """XRP/ETH and BTC/USD; raises FileNotFoundError without the recorded files."""
    return [_source(1, _xrp(data)), _source(E8 // 100, _btc(data))]


def _xrp(data: Path) -> Iterator[Print]:
    for day in XRP_DAYS:
        for row in _rows(data / f"XRPETH-aggTrades-{day}.zip"):
            price, size = (round(float(text) * E8) for text in row[1:3])
            trades = int(row[4]) - int(row[3]) + 1
            yield Print(int(row[5]), price, price, price, price, size, row[6] != "True", trades)


def _btc(data: Path) -> Iterator[Print]:
    chance, close = random.Random(7), 0
    for day, name in enumerate(BTC_DAYS):
        for row in _rows(data / f"coinbase_btcusd_second_{name}_trade.zip"):
            before, (open_, high, low, close) = close, (round(float(text) * 100) for text in row[1:5])
            time_ms = day * 86_400_000 + int(row[0]) + chance.randrange(1000)
            yield Print(time_ms, open_, high, low, close, round(float(row[5]) * E8), close > before, 1)


def _rows(path: Path) -> Iterator[list[str]]:
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        yield from csv.reader(io.TextIOWrapper(raw))


def _source(tick_e8: int, prints: Iterator[Print]) -> Source:
    found: list[Minute] = []
    first = None
    for place, group in groupby(prints, lambda one: one.time_ms // MINUTE_MS):
        rows = list(group)
        first = place if first is None else first
        while len(found) < place - first:
            close = found[-1].close
            found.append(Minute(close, close, close, close, 0, 0, 0, 0, 0, 0))
        found.append(
            Minute(
                rows[0].open, max(row.high for row in rows), min(row.low for row in rows), rows[-1].close,
                sum(row.size for row in rows), sum(row.close * row.size for row in rows),
                sum(row.size for row in rows if row.taker), sum(row.trades for row in rows),
                rows[0].time_ms % MINUTE_MS, rows[-1].time_ms % MINUTE_MS,
            )
        )  # fmt: skip
    return Source(tick_e8, found)


def live(source: Source, symbol: int, start_ms: int) -> Iterator[str]:
    """A symbol's month as the platform's own live bars, verified: lines for COPY with `revision` and `updated`."""
    chance, trade = random.Random(symbol), 10**8 + symbol * 10**6
    for place, one, values in _month(source, symbol):
        time_ms = start_ms + place * MINUTE_MS
        if one.trades:
            first, last = ((time_ms + ms) * 1000 for ms in (one.first_ms, one.last_ms))
            edges = f"{first}\t{trade}\t{last}\t{trade + one.trades - 1}\t2\t0"
            trade += one.trades
        else:
            edges = f"{time_ms * 1000}\t0\t{time_ms * 1000}\t0\t2\t3"
        written = (time_ms + MINUTE_MS * (1 if chance.random() < 0.98 else 2)) * 1000  # the exchange's word came then
        yield f"{symbol}\t{_utc(time_ms * 1000)}\t{values}\t{edges}\t{_utc(written)}\n"


def history(source: Source, symbol: int, start_ms: int) -> Iterator[str]:
    """The same month as a backfill would have brought it."""
    for place, one, values in _month(source, symbol):
        time_ms = start_ms + place * MINUTE_MS
        edges = f"{time_ms * 1000}\t0\t{(time_ms + MINUTE_MS) * 1000 - 1}\t0\t2\t{1 if one.trades else 3}"
        written = (start_ms + 10**10) * 1000 + (symbol * 100 + place // PAGE) * 123_457
        yield f"{symbol}\t{_utc(time_ms * 1000)}\t{values}\t{edges}\t{_utc(written)}\n"


def _month(source: Source, symbol: int) -> Iterator[tuple[int, Minute, str]]:
    """(minute's number, the recorded one, prices to trade count as text) of each minute."""
    tick, minutes = source.tick_e8, source.minutes
    at, shift, scale = symbol * 389 % len(minutes), 1000 * symbol, 10 ** (symbol % 3)
    for place in range(MINUTES):
        if at == len(minutes):
            shift, at = shift + minutes[-1].close - minutes[0].open, 0
        one = minutes[at]
        at += 1
        prices = [decimal((ticks + shift) * tick) for ticks in one[:4]]
        quote = (one.value + shift * one.size) * scale * tick // E8
        sums = [decimal(value) for value in (one.size * scale, quote, one.taker * scale)]
        yield place, one, "\t".join([*prices, *sums, str(one.trades)])


def decimal(value_e8: int) -> str:
    """A number of 1e-8 as its decimals."""
    return f"{value_e8 // E8}.{value_e8 % E8:08d}"


def _utc(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat()
