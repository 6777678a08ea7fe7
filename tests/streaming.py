"""A streamer inside the test's event loop, with a collecting queue in place of the broker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from app.bootstrap import platform
from app.config import load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.official import OfficialBar, OfficialBatch
from app.domain.trades import Mark, Trade, TradeBatch
from app.errors import Unavailable
from streamers.binance import BinanceStreamer
from streamers.daemon import Ports, Shard
from tests.sandbox import RunningSandbox


def instrument(id: int, symbol: str, *, active: bool = True) -> Instrument:
    """A Binance instrument."""
    wire = symbol.replace("/", "")
    return Instrument(id, Exchange.BINANCE, symbol, wire, "crypto", symbol.split("/")[1], "24/7", active, 8)


@dataclass
class Collected:
    """The queue: keeps what it is given, in order, each through the wire encoding; `away` refuses everything."""

    batches: list[tuple[int, TradeBatch]] = field(default_factory=list)
    officials: list[OfficialBatch] = field(default_factory=list)
    away: bool = False
    block_s: float = 0.0
    refused: int = 0
    lock: Lock = field(default_factory=Lock)

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Keep the batch, or refuse it."""
        time.sleep(self.block_s)
        with self.lock:
            if self.away:
                self.refused += 1
                raise Unavailable("away")
            self.batches.append((shard, TradeBatch.decode(batch.encode())))

    def send_official(self, batch: OfficialBatch) -> None:
        """Keep the batch of official bars, or refuse it."""
        with self.lock:
            if self.away:
                self.refused += 1
                raise Unavailable("away")
            self.officials.append(OfficialBatch.decode(batch.encode()))

    @property
    def bars(self) -> list[OfficialBar]:
        """Every official bar, in the order of hand-over."""
        return [bar for batch in list(self.officials) for bar in batch.bars]

    @property
    def trades(self) -> list[Trade]:
        """Every trade, in the order of hand-over."""
        rows: list[Trade] = []
        for _, batch in list(self.batches):
            columns = (batch.instrument_id, batch.time_us, batch.first, batch.last, batch.price_e8, batch.size)
            rows += [
                Trade(*values, bool(taker))
                for *values, taker in zip(*(c.tolist() for c in columns), batch.taker_buy.tolist(), strict=True)
            ]
        return rows

    def ids(self, instrument_id: int) -> set[int]:
        """The trade ids of an instrument."""
        return {trade.first for trade in self.trades if trade.instrument_id == instrument_id}

    @property
    def marks(self) -> list[Mark]:
        """Every mark, in the order of hand-over."""
        return [batch.mark for _, batch in list(self.batches) if batch.mark is not None]

    def runs(self) -> dict[int, list[Mark]]:
        """The marks of each run, runs in the order of their first batch."""
        runs: dict[int, list[Mark]] = {}
        for mark in self.marks:
            runs.setdefault(mark.run, []).append(mark)
        return runs


@dataclass
class Streaming:
    """What a test holds of a running streamer."""

    streamer: BinanceStreamer
    queue: Collected
    watchlist: list[Instrument]
    stop: asyncio.Event
    task: asyncio.Task[None]
    beats: list[Mapping[str, Any]]

    async def until(self, happened: Callable[[], bool], seconds: float = 90.0) -> None:
        """Returns once `happened`; fails after so many seconds, or with the streamer's own error."""
        end_s = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end_s, f"not in {seconds} s: {self.streamer.facts()}"
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """Stops the streamer as SIGTERM does, and waits."""
        self.stop.set()
        await asyncio.wait_for(self.task, 60)


@asynccontextmanager
async def streaming(
    market: RunningSandbox, *symbols: str, queue: Collected | None = None, shard: Shard | None = None, **options: Any
) -> AsyncIterator[Streaming]:
    """A streamer that follows `symbols` (ids 1, 2, …); `options` are settings."""
    settings = load_settings(
        binance_api_url=market.url, binance_stream_url=market.stream_url, market="sandbox", _env_file=None, **options
    )
    collected, beats = queue or Collected(), list[Mapping[str, Any]]()
    watchlist = [instrument(i, symbol) for i, symbol in enumerate(symbols, 1)]

    def beat(facts: Mapping[str, Any], reasons: Counter[str]) -> Counter[str]:
        beats.append(facts)
        return Counter()

    ports = Ports(platform(settings).clock, collected, lambda: list(watchlist), lambda _s: time.sleep(0.1), beat)
    streamer, stop = BinanceStreamer(settings, ports, shard or Shard(0, 1)), asyncio.Event()
    held = Streaming(streamer, collected, watchlist, stop, asyncio.create_task(streamer.run(stop)), beats)
    try:
        yield held
    finally:
        await held.end()
