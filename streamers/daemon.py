"""What every streamer is: a buffer, a sender, official bars, a watchlist and a heartbeat around its feeds."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loguru import logger

from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from streamers.buffer import Buffer
from streamers.officials import OfficialQueue, Officials
from streamers.pace import Clock, Pace
from streamers.sender import Queue, Sender
from streamers.stats import Stats
from streamers.watchlist import Hint, Load, Watchlist

BEAT_S = 2.0
LOG_S = 60.0
DRAIN_S = 6.0  # for what is still in the buffer at the end


@dataclass(frozen=True, slots=True)
class Shard:
    """Which instruments are this streamer's: id % n == k."""

    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.k}/{self.n}"


class Queues(Queue, OfficialQueue, Protocol):
    """Where trades and official bars go (app.cache.trade_queue)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the streamer needs of the world; `beat` tells facts and new counts, and returns counts it could not tell."""

    clock: Clock
    queue: Queues
    load: Load
    hint: Hint
    beat: Callable[[Mapping[str, Any], Counter[str]], Counter[str]]
    ready: Callable[[], None] = lambda: None  # called once everything is followed


class Daemon(ABC):
    """The parts around the feeds, and how they begin and end together."""

    def __init__(self, settings: Settings, ports: Ports, shard: Shard, exchange: Exchange) -> None:
        self.stats = Stats()
        self._settings, self._ports, self._shard, self._exchange = settings, ports, shard, exchange
        self._buffer = Buffer(self.stats, limit=settings.stream_buffer_trades, most=settings.flush_trades)
        flush_s = settings.flush_interval_ms / 1000
        self._officials = Officials(ports.queue, self.stats, exchange.value, every_s=flush_s)
        self._pace = Pace(ports.clock)

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the heartbeat says."""

    @abstractmethod
    def _follow(self, instruments: Sequence[Instrument]) -> None:
        """Sets what is followed; called with the watchlist whenever it changed."""

    @abstractmethod
    async def _tick(self) -> None:
        """Hands on what the feeds received, again and again."""

    def _mine(self, instruments: Iterable[Instrument]) -> list[Instrument]:
        """Those of the watchlist that this streamer follows."""
        shard = self._shard
        return [
            item
            for item in instruments
            if item.exchange is self._exchange and item.active and item.id % shard.n == shard.k
        ]

    async def _serve(
        self, stop: asyncio.Event, *work: Coroutine[Any, Any, None], feeds: Sequence[asyncio.Task[None]] = ()
    ) -> None:
        """Works until `stop`; then flushes, says that every run is over, and leaves nothing behind.

        `feeds` are tasks that come to be meanwhile and end with the others.
        """
        settings, ports = self._settings, self._ports
        sender = Sender(ports.queue, self._buffer, self.stats, shards=settings.trade_shards, most=settings.flush_trades)
        watchlist = Watchlist(ports.load, ports.hint, self._follow)
        parts = (self._pace.run(), watchlist.run(), self._tick(), self._beats(), self._logs(), *work)
        tasks = [start(part) for part in parts]
        sending, official = start(sender.run()), start(self._officials.run())
        stopping = asyncio.create_task(stop.wait())
        everything = (*tasks, official, sending)
        await asyncio.wait({stopping, *everything}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in (*tasks, *feeds):
            task.cancel()
        await asyncio.gather(*tasks, *feeds, return_exceptions=True)
        await self._drain(official, sending)
        for task in everything:  # a task that ended by itself is a defect; say so
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _drain(self, official: asyncio.Task[None], sending: asyncio.Task[None]) -> None:
        self._buffer.close()
        official.cancel()  # it flushes, as the sender does
        await asyncio.wait({sending, official}, timeout=DRAIN_S)
        if not sending.done():
            logger.error("broker away at the end: {} trades are left to repair", self._buffer.trades)
            sending.cancel()
            await asyncio.wait({sending})
        logger.info("stopped after {} trades in {} batches", self.stats.sent_trades, self.stats.batches)

    async def _beats(self) -> None:
        reasons: Counter[str] = Counter()
        while True:
            reasons += self.stats.take_reasons()
            reasons = await asyncio.to_thread(self._ports.beat, self.facts(), reasons)
            await asyncio.sleep(BEAT_S)

    async def _logs(self) -> None:
        before = 0
        while True:
            await asyncio.sleep(LOG_S)
            now, facts = self.stats.trades, self.facts()
            logger.info(
                "{} trades in the last minute, {} in all, {} bars; feed {}, lag {} ms, {} waiting, {} reconnects",
                now - before, now, facts["official"], facts["feed"], facts["lag_ms"], facts["buffered"],
                facts["reconnects"],
            )  # fmt: skip
            before = now


def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """The coroutine as a task."""
    return asyncio.create_task(coroutine)
