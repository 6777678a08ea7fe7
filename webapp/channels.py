"""Channels: the clients of one series, or of the overview, and what waits to be sent to all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from app.domain.bars import Bar, State
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import Timeframe
from app.domain.updates import bar_json
from webapp import frames
from webapp.board import Board
from webapp.clients import Client, Subscription
from webapp.whole_socket import PART

OVERVIEW = "overview"
RELOAD_S = 1.0  # least time between two fresh charts, while an import changes bars all the time


def channel_name(instrument: Instrument, tf: Timeframe) -> str:
    """How a series is named in every message: `binance:BTC/USDT@1m`."""
    return f"{instrument.key}@{tf.value}"


class Channel:
    """Subscribers that get the same frames, one flush in `every_s`; who comes together shares an `initial`."""

    def __init__(self, name: str, *, every_s: float) -> None:
        self.name = name
        self.subscribers: set[Subscription] = set()
        self._every_s = every_s
        self._flushed = -every_s
        self._loading = threading.Lock()
        self._loaded: dict[Hashable, tuple[bytes, int, float]] = {}  # frame, version, until when it is good
        self._version = 0
        self._reload, self._reloaded = False, -RELOAD_S

    @property
    def due(self) -> float:
        """When it may be flushed next, in time.monotonic() seconds."""
        flush = self._flushed + self._every_s
        return max(flush, self._reloaded + RELOAD_S) if self._reload else flush

    def load(self, read: Callable[[], bytes], *, variant: Hashable = None) -> bytes:
        """The frame of a fresh `initial`, read once for all who ask for the same before anything changes."""
        with self._loading:
            version, kept = self._version, self._loaded.get(variant)
            if kept is not None and kept[1] == version and time.monotonic() < kept[2]:
                return kept[0]
            frame = read()
            if version == self._version:  # else it is right for this client, and for the next one it may be old
                # From now on: who waited for a slow database would else read one after the other.
                self._loaded[variant] = frame, version, time.monotonic() + self._every_s
            return frame

    def forget(self) -> None:
        """Have the next `initial` read anew: what was read is known to be old."""
        self._version += 1
        self._loaded = {}

    def tidy(self) -> None:
        """Let go of what is too old to be given again: a chart is a megabyte, and there may be 3,000."""
        if self._loaded:
            now = time.monotonic()
            self._loaded = {key: kept for key, kept in tuple(self._loaded.items()) if now < kept[2]}

    def reload(self) -> None:
        """At the next flush, have every client get a fresh `initial` in place of what waits."""
        self._reload = True
        self.forget()

    def flush(self, touched: set[Client], *, alone: bool = False) -> None:
        """Give what waits to every subscriber; clients that need a push join `touched`. `alone`: see tell()."""
        self._flushed = time.monotonic()
        if self._reload:
            self._reload, self._reloaded = False, self._flushed
            self.clear()
            for one in self.subscribers:
                one.refresh()
            return
        data, completed = self.take()
        if data:
            self.forget()
            self.tell(data, touched, completed=completed, alone=alone)

    def tell(self, data: bytes, touched: set[Client], *, completed: bytes | None = None, alone: bool = False) -> None:
        """Give frames to every subscriber, `completed` in their place to those who want only completed bars.

        `alone`: no other channel has anything now, so that nobody's frames could leave in one write with others.
        """
        parts = (data, data if completed is None else completed)
        for one in self.subscribers:
            part, client = parts[one.completed_only], one.client
            if not part:
                continue
            if (write := client.at_once) is not None and (alone or client.single) and (taken := write(part)):
                if taken == PART:
                    client.finish()
                continue
            one.offer(part)
            touched.add(client)

    def take(self) -> tuple[bytes, bytes | None]:
        """What waits, as frames in one piece, and the part of it that is completed bars; nothing waits afterwards."""
        raise NotImplementedError

    def clear(self) -> None:
        """Nothing waits any more: a fresh `initial` will say it all."""
        raise NotImplementedError


class SeriesChannel(Channel):
    """One series: the bars that changed, and whether its live bar has to be put together again."""

    def __init__(self, instrument: Instrument, tf: Timeframe, *, board: Board, every_s: float) -> None:
        super().__init__(channel_name(instrument, tf), every_s=every_s)
        self.instrument, self.tf, self.board = instrument, tf, board
        self.batch: str | None = None  # the newest batch of trades since the last flush, which the newest bar has in it
        self._bars: dict[int, Bar] = {}
        self._indicators: dict[int, dict[str, Any]] = {}
        self._live = False

    def add(self, bar: Bar | None, indicators: dict[str, Any] | None = None) -> None:
        """A stored bar changed, or (None) the minutes that its live bar is made of."""
        if bar is None:
            self._live = True
            return
        self._bars[bar.time_ms] = bar
        if indicators is not None:
            self._indicators[bar.time_ms] = indicators

    def take(self) -> tuple[bytes, bytes | None]:
        """The bars that changed, oldest first, the live bar in its present form; none before the board is seeded."""
        if not self.board.knows(self.tf):
            return b"", None
        bars, indicators, live, batch = self._bars, self._indicators, self._live, self.batch
        self.clear()
        newest = self.board.live(self.tf)
        if newest is not None and (live or newest.time_ms in bars):
            bars[newest.time_ms] = newest
        last = max(bars, default=0)
        told = [
            (bars[time_ms], self._frame(bars[time_ms], indicators.get(time_ms), batch if time_ms == last else None))
            for time_ms in sorted(bars)
        ]
        completed = b"".join(frame for bar, frame in told if bar.state is not State.OPEN)
        return b"".join(frame for _, frame in told), completed

    def clear(self) -> None:
        """Nothing waits any more."""
        self._bars, self._indicators, self._live, self.batch = {}, {}, False, None

    def _frame(self, bar: Bar, indicators: dict[str, Any] | None, batch: str | None) -> bytes:
        return frames.message(
            "update",
            {
                "symbol": self.instrument.symbol,
                "exchange": self.instrument.exchange.value,
                "timeframe": self.tf.value,
                "bar": bar_json(bar, delayed=RULES[self.instrument.exchange].delay_s > 0),
                "indicators": indicators,
                "batch": batch,
            },
            channel=self.name,
        )


class OverviewChannel(Channel):
    """All instruments: the last prices that changed."""

    def __init__(self, *, every_s: float) -> None:
        super().__init__(OVERVIEW, every_s=every_s)
        self._prices: dict[tuple[str, str], tuple[float, int]] = {}
        self._newest: dict[tuple[str, str], tuple[int, int, int]] = {}  # minute, its revision, time of its last trade

    def receive(self, message: dict[str, Any]) -> bool:
        """Take in the price of a `chart_updates` message; whether it is the last one, and there is somebody to tell."""
        bars = message["series"].get("1m", {}).get("bars")
        if not bars:
            return False
        newest, name = max(bars, key=lambda bar: bar["time"]), (message["exchange"], message["symbol"])
        close_ms = newest["order"][2] // 1000 or newest["time"]
        place = newest["time"], newest["revision"], close_ms
        if place < self._newest.get(name, place):
            return False  # of a minute that was closed, repaired or imported behind the last one
        self._newest[name] = place
        if not self.subscribers:
            return False
        self._prices[name] = (newest["close"], close_ms)
        return True

    def take(self) -> tuple[bytes, bytes | None]:
        """The prices that changed."""
        prices, self._prices = self._prices, {}
        rows = [
            {"exchange": exchange, "symbol": symbol, "price": price, "time": time_ms}
            for (exchange, symbol), (price, time_ms) in prices.items()
        ]
        return (frames.message("update", rows, channel=self.name) if rows else b""), None

    def clear(self) -> None:
        """Nothing waits any more."""
        self._prices = {}
