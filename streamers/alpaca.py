"""The Alpaca streamer: one feed of US stocks, its prints, bars, quotes and halts on their ways, a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
from streamers.daemon import Daemon, Ports, Shard

READY_S = 5.0  # for the sessions to be known


@dataclass(frozen=True, slots=True)
class StockPorts:
    """What a stock streamer needs of the world beside `Ports`: the sessions, and where quotes are kept."""

    sessions: Find
    store: Store


class AlpacaStreamer(Daemon):
    """Follows the active Alpaca instruments of its shard until told to stop."""

    def __init__(
        self, settings: Settings, ports: Ports, shard: Shard, stock_ports: StockPorts, *, refused_s: float = 300.0
    ) -> None:
        super().__init__(settings, ports, shard, Exchange.ALPACA)
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
        await self._serve(stop, self._hours.run(), self._feeding(), self._board.run())

    async def _feeding(self) -> None:
        """The feed, once it is known when its market is open."""
        await self._hours.ready(READY_S)
        await self.feed.run()

    def _follow(self, instruments: Sequence[Instrument]) -> None:
        wanted = {item.wire_symbol: item for item in self._mine(instruments)}
        self.feed.follow(wanted)
        logger.info("watchlist: {} symbols of shard {}", len(wanted), self._shard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._settings.flush_interval_ms / 1000)
            self.feed.tick()

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
