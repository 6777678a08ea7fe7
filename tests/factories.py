"""Trades, batches and the pieces of a platform for tests; oracles read files of independent origin."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from app.bootstrap import Platform
from app.domain.bars import Bar
from app.domain.trades import Mark, Trade, TradeBatch, e8
from app.storage import candles, catalog, outbox

FILES = ("XRPETH-aggTrades-2019-10-11.zip", "XRPETH-aggTrades-2019-10-12.zip", "XRPETH-aggTrades-2019-10-13.zip")
MINUTES = "XRPETH-1m-2019-10-11_13.csv"


def recorded_trades(data: Path, instrument_id: int, files: Sequence[str] = FILES) -> list[Trade]:
    """The recorded aggregate trades, in the files' order."""
    trades = []
    for name in files:
        with zipfile.ZipFile(data / name) as archive, archive.open(archive.namelist()[0]) as raw:
            for row in csv.reader(io.TextIOWrapper(raw)):
                trades.append(
                    Trade(
                        instrument_id,
                        int(row[5]) * 1000,
                        int(row[3]),
                        int(row[4]),
                        e8(row[1]),
                        e8(row[2]),
                        row[6] != "True",
                    )
                )
    return trades


def recorded_minutes(data: Path) -> dict[int, tuple[str, ...]]:
    """The independent one-minute bars: start ms → (open, high, low, close, volume, quote volume, trades) as written."""
    with (data / MINUTES).open() as file:
        rows = list(csv.reader(file))[1:]
    return {int(row[0]): tuple(row[1:]) for row in rows}


def as_recorded(bar: Bar) -> tuple[float | Decimal, ...]:
    """The bar as the recorded file states it, sums to eight places."""
    return (
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        round(bar.volume, 8),
        round(bar.quote_volume, 8),
        Decimal(bar.trade_count),
    )


def numbers(row: Iterable[str]) -> tuple[float | Decimal, ...]:
    """A recorded row as numbers: prices as doubles, the rest exact."""
    values = list(row)
    return (*map(float, values[:4]), *(Decimal(value) for value in values[4:]))


def cut(
    trades: Sequence[Trade], size: int, *, run: int = 1, kind: str = "import", exchange: str = "binance"
) -> list[TradeBatch]:
    """The trades as the batches of one run."""
    pieces = [trades[i : i + size] for i in range(0, len(trades), size)]
    since = min(trade.time_us for trade in trades) // 60_000_000 * 60_000_000
    ids = tuple((i, since) for i in sorted({trade.instrument_id for trade in trades}))
    batches = []
    for n, piece in enumerate(pieces, 1):
        mark = Mark(run, n, max(trade.time_us for trade in piece), exchange, kind=kind, since_us=since)
        mark = replace(mark, subscribed=ids if n == 1 else None, over=n == len(pieces))
        batches.append(TradeBatch.of(piece, mark=mark))
    return batches


def add_instrument(engine: sa.Engine, symbol: str = "XRP/ETH", *, active: bool = False) -> int:
    """The id of a Binance instrument, added where it is missing."""
    with engine.begin() as connection:
        return catalog.add(connection, "binance", symbol, active=active, price_decimals=8).id


def settle(platform: Platform) -> None:
    """Everything that follows from what is stored, but indicators: close, derive, publish, until nothing is left."""
    platform.closing.run()
    for _ in range(1000):
        if not platform.settle.run():
            break
    while platform.publish.run():
        continue


def bars(engine: sa.Engine, instrument_id: int, tf: str = "1m") -> list[Bar]:
    """All stored bars of a series."""
    from app.domain.timeframes import Timeframe

    with engine.begin() as connection:
        return candles.read(connection, instrument_id, Timeframe(tf), limit=1_000_000)


def waiting(engine: sa.Engine) -> dict[str, int]:
    """Marks left in the outbox by stage."""
    with engine.begin() as connection:
        return {stage: count for stage, (count, _) in outbox.pending(connection).items()}
