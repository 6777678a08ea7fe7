"""The exchange's own bars and doubts on their way to the workers: bounded, sent from a thread, none sent twice."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import Protocol

from loguru import logger

from app.domain.official import Doubt, OfficialBar, OfficialBatch
from app.errors import Unavailable
from streamers.backoff import delays
from streamers.stats import Stats

MOST = 1000  # bars, and doubts, a message
END_S = 3.0  # for what is still waiting at the end


class OfficialQueue(Protocol):
    """Where official bars go (app.cache.trade_queue)."""

    def send_official(self, batch: OfficialBatch) -> None:
        """Hand the batch to the workers of bars; raises Unavailable."""


class Officials:
    """Keeps what the exchange said itself until the broker has it.

    At most `limit` bars and doubts wait (and one message of `MOST` is on its way): over that the oldest bars go,
    counted as `official_dropped`, since history has them; then the oldest doubts, counted as `doubts_dropped`.
    Everything here runs in the event loop, except the sending.
    """

    def __init__(
        self, queue: OfficialQueue, stats: Stats, exchange: str, *, limit: int = 20_000, every_s: float = 0.1
    ) -> None:
        self._queue, self._stats, self._exchange = queue, stats, exchange
        self._limit, self._every_s = limit, every_s
        self._bars: deque[OfficialBar] = deque()
        self._doubts: dict[Doubt, None] = {}  # in order; the same one waits once
        self._ending = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "official")
        self.away = False

    @property
    def waiting(self) -> int:
        """How many bars and doubts wait."""
        return len(self._bars) + len(self._doubts)

    def put(self, bar: OfficialBar) -> None:
        """Send the bar with the next message."""
        self._bars.append(bar)
        self._bound()

    def doubt(self, doubt: Doubt) -> None:
        """Send the doubt with the next message."""
        self._doubts[doubt] = None
        self._bound()

    async def run(self) -> None:
        """Sends until it is cancelled; then what waits still goes, for at most `END_S`."""
        sending = asyncio.create_task(self._send_all())
        try:
            await asyncio.shield(sending)
        finally:
            self._ending.set()
            await asyncio.wait({sending}, timeout=END_S)
            if not sending.done():
                logger.error("broker away at the end: official bars are left to history, {} at least", self.waiting)
                sending.cancel()
                await asyncio.wait({sending})
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _bound(self) -> None:
        if self.waiting <= self._limit:
            return
        if self._bars:
            self._bars.popleft()
            self._stats.count("official_dropped")
        else:
            del self._doubts[next(iter(self._doubts))]
            self._stats.count("doubts_dropped")

    async def _send_all(self) -> None:
        while self.waiting or not self._ending.is_set():
            await self._pause(self._every_s)
            while self.waiting:
                await self._deliver(self._take())

    def _take(self) -> OfficialBatch:
        bars = [self._bars.popleft() for _ in range(min(MOST, len(self._bars)))]
        doubts = list(self._doubts)[:MOST]
        for doubt in doubts:
            del self._doubts[doubt]
        return OfficialBatch(self._exchange, bars, doubts)

    async def _deliver(self, batch: OfficialBatch) -> None:
        loop = asyncio.get_running_loop()
        waits = delays(Random(), first_s=0.2, cap_s=5.0)
        while True:
            try:
                await loop.run_in_executor(self._thread, self._queue.send_official, batch)
            except Unavailable as error:
                if not self.away:
                    logger.warning("broker away, keeping official bars: {}", error)
                self.away = True
                await self._pause(next(waits))
            else:
                break
        self.away = False
        self._stats.official += len(batch.bars)
        self._stats.doubts += len(batch.doubts)

    async def _pause(self, seconds: float) -> None:
        """Waits, or, once the end has come, only a moment."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
            await asyncio.sleep(min(seconds, 0.1))
