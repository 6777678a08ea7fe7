"""The Binance streamer: feeds of up to 204 symbols (1,024 streams), one buffer, one sender, a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import batched
from typing import Any

import aiohttp
from loguru import logger

from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from streamers.connection import SYMBOLS
from streamers.daemon import Daemon, Ports, Shard, start
from streamers.feed import Feed, Limits

_WORST = ("idle", "connected", "reconnecting", "down")
_SERVING = _WORST[:2]


class BinanceStreamer(Daemon):
    """Follows the active Binance instruments of its shard until told to stop."""

    def __init__(self, settings: Settings, ports: Ports, shard: Shard) -> None:
        super().__init__(settings, ports, shard, Exchange.BINANCE)
        self.feeds: list[Feed] = []
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
        self._followed = self._ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Streams until `stop`; then flushes, says that every run is over, and leaves nothing behind."""
        async with aiohttp.ClientSession() as session:
            self._session = session
            await self._serve(stop, feeds=self._keeping)

    def _follow(self, instruments: Sequence[Instrument]) -> None:
        """Spreads the shard's instruments over feeds; a symbol stays with its feed as long as it is followed."""
        wanted = {item.wire_symbol: item.id for item in self._mine(instruments)}
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
        self._followed = True
        for feed in self.feeds[len(self._keeping) :]:
            self._keeping.append(start(feed.run()))
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
            if not self._ready and self._followed and all(feed.state in _SERVING for feed in self.feeds):
                self._ready = True
                self._ports.ready()
            for task in self._keeping:
                if task.done():
                    task.result()  # raises what ended the feed

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
