"""The Alpaca streamer: one feed of US stocks, its prints, bars, quotes and halts on their ways, a heartbeat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from streamers.alpaca_amendments import Amendments
from streamers.alpaca_board import Board, Store
from streamers.alpaca_feed import AlpacaFeed, Limits
from streamers.alpaca_hours import Find, Hours
from streamers.alpaca_intake import Parts
from streamers.binance import BEAT_S, DRAIN_S, LOG_S, Ports, Shard
from streamers.buffer import Buffer
from streamers.officials import Officials
from streamers.pace import Pace
from streamers.sender import Sender
from streamers.stats import Stats
from streamers.watchlist import Watchlist

READY_S = 5.0  # for the sessions to be known


@dataclass(frozen=True, slots=True)
class StockPorts:
    """What a stock streamer needs of the world beside `Ports`: the sessions, and where quotes are kept."""

    sessions: Find
    store: Store


class AlpacaStreamer:
    """Follows the active Alpaca instruments of its shard until told to stop."""

    def __init__(
        self, settings: Settings, ports: Ports, shard: Shard, stock_ports: StockPorts, *, refused_s: float = 300.0
    ) -> None:
        self.stats = Stats()
        self._settings, self._ports, self._shard = settings, ports, shard
        self._buffer = Buffer(self.stats, limit=settings.stream_buffer_trades, most=settings.flush_trades)
        flush_s = settings.flush_interval_ms / 1000
        self._officials = Officials(ports.queue, self.stats, Exchange.ALPACA.value, every_s=flush_s)
        self._pace = Pace(ports.clock)
        self._hours = Hours(stock_ports.sessions, self._pace, extended=settings.extended_hours)
        self._board = Board(stock_ports.store)
        url = f"{settings.alpaca_stream_url.rstrip('/')}/v2/{settings.alpaca_feed}"
        limits = Limits(
            url, settings.alpaca_feed, settings.alpaca_keys, str(shard), settings.stream_silence_s, refused_s
        )
        parts = Parts(
            self._buffer, self._officials, self._board, self._hours, Amendments(), self.stats, self._pace,
            settings.flush_trades,
        )  # fmt: skip
        self.feed = AlpacaFeed(limits, parts)

    async def run(self, stop: asyncio.Event) -> None:
        """Streams until `stop`; then flushes, says that the run is over, and leaves nothing behind."""
        settings, ports = self._settings, self._ports
        sender = Sender(ports.queue, self._buffer, self.stats, shards=settings.trade_shards, most=settings.flush_trades)
        watchlist = Watchlist(ports.load, ports.hint, self._follow)
        work = (
            self._pace.run(), self._hours.run(), watchlist.run(), self._feeding(), self._board.run(), self._tick(),
            self._beats(), self._logs(),
        )  # fmt: skip
        tasks = [_start(part) for part in work]
        sending, official = _start(sender.run()), _start(self._officials.run())
        stopping = asyncio.create_task(stop.wait())
        everything = (*tasks, official, sending)
        await asyncio.wait({stopping, *everything}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drain(official, sending)
        for task in everything:  # a task that ended by itself is a defect; say so
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _feeding(self) -> None:
        """The feed, once it is known when its market is open."""
        await self._hours.ready(READY_S)
        await self.feed.run()

    async def _drain(self, official: asyncio.Task[None], sending: asyncio.Task[None]) -> None:
        self._buffer.close()
        official.cancel()  # it flushes, as the sender does
        await asyncio.wait({sending, official}, timeout=DRAIN_S)
        if not sending.done():
            logger.error("broker away at the end: {} trades are left to repair", self._buffer.trades)
            sending.cancel()
            await asyncio.wait({sending})
        logger.info("stopped after {} trades in {} batches", self.stats.sent_trades, self.stats.batches)

    def _follow(self, instruments: Sequence[Instrument]) -> None:
        wanted = {
            item.wire_symbol: item
            for item in instruments
            if item.exchange is Exchange.ALPACA and item.active and item.id % self._shard.n == self._shard.k
        }
        self.feed.follow(wanted)
        logger.info("watchlist: {} symbols of shard {}", len(wanted), self._shard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._settings.flush_interval_ms / 1000)
            self.feed.tick()

    async def _beats(self) -> None:
        reasons: Counter[str] = Counter()
        while True:
            reasons += self.stats.take_reasons()
            reasons = await asyncio.to_thread(self._ports.beat, self.facts(), reasons)
            await asyncio.sleep(BEAT_S)

    def facts(self) -> dict[str, Any]:
        """What the heartbeat says; `feed` is closed where the connection stands and no market is open."""
        stats, feed = self.stats, self.feed
        closed = feed.state == "connected" and not self._hours.open()
        return {
            "exchange": Exchange.ALPACA.value,
            "feed": "closed" if closed else feed.state,
            "since": feed.state_ms,
            "error": feed.error or None,
            "at": (feed.live.heard_us // 1000 if feed.live else 0) or None,
            "shard": str(self._shard),
            "source": self._settings.alpaca_feed,
            "delay_s": stats.delay_s,
            "lag_ms": self._pace.lag_ms(stats.last_event_us),
            "trades": stats.trades,
            "batches": stats.batches,
            "official": stats.official,
            "doubts": stats.doubts,
            "buffered": self._buffer.trades,
            "official_waiting": self._officials.waiting,
            "reconnects": stats.reconnects,
            "runs": stats.runs,
            "instruments": len(feed.wanted),
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
