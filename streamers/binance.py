"""The Binance streamer: feeds of up to 204 symbols (1,024 streams), one buffer, one sender, a heartbeat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any, Protocol

import aiohttp
from loguru import logger

from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from streamers.buffer import Buffer
from streamers.connection import SYMBOLS
from streamers.feed import Feed, Limits
from streamers.officials import OfficialQueue, Officials
from streamers.pace import Clock, Pace
from streamers.sender import Queue, Sender
from streamers.stats import Stats
from streamers.watchlist import Hint, Load, Watchlist

BEAT_S = 2.0
LOG_S = 60.0
DRAIN_S = 6.0  # for what is still in the buffer at the end

_WORST = ("idle", "connected", "reconnecting", "down")


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


class BinanceStreamer:
    """Follows the active Binance instruments of its shard until told to stop."""

    def __init__(self, settings: Settings, ports: Ports, shard: Shard) -> None:
        self.stats = Stats()
        self.feeds: list[Feed] = []
        self._settings, self._ports, self._shard = settings, ports, shard
        self._buffer = Buffer(self.stats, limit=settings.stream_buffer_trades, most=settings.flush_trades)
        self._officials = Officials(
            ports.queue, self.stats, Exchange.BINANCE.value, every_s=settings.flush_interval_ms / 1000
        )
        self._pace = Pace(ports.clock)
        self._limits = Limits(
            settings.binance_stream_url.rstrip("/") + "/stream",
            Exchange.BINANCE.value,
            str(shard),
            settings.stream_silence_s,
            settings.stream_max_age_s,
            settings.flush_trades,
        )
        self._instruments = 0
        self._keeping: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Streams until `stop`; then flushes, says that every run is over, and leaves nothing behind."""
        sender = Sender(
            self._ports.queue,
            self._buffer,
            self.stats,
            shards=self._settings.trade_shards,
            most=self._settings.flush_trades,
        )
        async with aiohttp.ClientSession() as session:
            self._session = session
            watchlist = Watchlist(self._ports.load, self._ports.hint, self._follow)
            sending = asyncio.create_task(sender.run())
            official = asyncio.create_task(self._officials.run())
            tasks = [*map(_start, (self._pace.run(), watchlist.run(), self._tick(), self._beats(), self._logs()))]
            stopping = asyncio.create_task(stop.wait())
            everything = (*tasks, official, sending)
            await asyncio.wait({stopping, *everything}, return_when=asyncio.FIRST_COMPLETED)
            await self._end(tasks, official, sending)
            stopping.cancel()
            for task in everything:  # a task that ended by itself is a defect; say so
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error

    async def _end(
        self, tasks: Sequence[asyncio.Task[None]], official: asyncio.Task[None], sending: asyncio.Task[None]
    ) -> None:
        for task in (*tasks, *self._keeping):
            task.cancel()
        await asyncio.gather(*tasks, *self._keeping, return_exceptions=True)
        self._buffer.close()
        official.cancel()  # it flushes, as the sender does
        await asyncio.wait({sending, official}, timeout=DRAIN_S)
        if not sending.done():
            logger.error("broker away at the end: {} trades are left to repair", self._buffer.trades)
            sending.cancel()
            await asyncio.wait({sending})
        logger.info("stopped after {} trades in {} batches", self.stats.sent_trades, self.stats.batches)

    def _follow(self, instruments: Sequence[Instrument]) -> None:
        """Spreads the shard's instruments over feeds; a symbol stays with its feed as long as it is followed."""
        wanted = {
            item.wire_symbol: item.id
            for item in instruments
            if item.exchange is Exchange.BINANCE and item.active and item.id % self._shard.n == self._shard.k
        }
        self._instruments = len(wanted)
        fresh = dict(wanted)
        groups = [{name: wanted[name] for name in feed.wanted if name in wanted} for feed in self.feeds]
        for group in groups:
            for name in group:
                fresh.pop(name)
        for group in groups:
            for name in list(fresh)[: SYMBOLS - len(group)]:
                group[name] = fresh.pop(name)
        for names in batched(list(fresh), SYMBOLS):
            self.feeds.append(self._feed())
            groups.append({name: fresh[name] for name in names})
        for feed, group in zip(self.feeds, groups, strict=True):
            feed.follow(group)
        for feed in self.feeds[len(self._keeping) :]:
            self._keeping.append(_start(feed.run()))
        logger.info("watchlist: {} symbols of shard {} on {} connections", len(wanted), self._shard, len(self.feeds))

    def _feed(self) -> Feed:
        return Feed(
            self._session,
            self._limits,
            buffer=self._buffer,
            officials=self._officials,
            stats=self.stats,
            pace=self._pace,
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._settings.flush_interval_ms / 1000)
            for feed in self.feeds:
                feed.tick()
            for task in self._keeping:
                if task.done():
                    task.result()  # raises what ended the feed

    async def _beats(self) -> None:
        reasons: Counter[str] = Counter()
        while True:
            reasons += self.stats.take_reasons()
            reasons = await asyncio.to_thread(self._ports.beat, self.facts(), reasons)
            await asyncio.sleep(BEAT_S)

    def facts(self) -> dict[str, Any]:
        """What the heartbeat says."""
        stats = self.stats
        worst = max(self.feeds, key=lambda feed: (_WORST.index(feed.state), feed.state_ms), default=None)
        runs = [connection for feed in self.feeds for connection in feed.live]
        return {
            "exchange": Exchange.BINANCE.value,
            "feed": "connected" if worst is None or worst.state == "idle" else worst.state,
            "since": worst.state_ms if worst else None,
            "at": min((connection.heard_us for connection in runs), default=0) // 1000 or None,
            "shard": str(self._shard),
            "delay_s": stats.delay_s,
            "lag_ms": self._pace.lag_ms(stats.last_event_us),
            "trades": stats.trades,
            "batches": stats.batches,
            "official": stats.official,
            "klines": stats.klines,
            "buffered": self._buffer.trades,
            "official_waiting": self._officials.waiting,
            "connections": len(runs),
            "reconnects": stats.reconnects,
            "runs": stats.runs,
            "instruments": self._instruments,
            "dropped": dict(stats.dropped),
        }

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


def _start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine)
