"""The exchange's clock as the event loop sees it: sampled in a thread, since asking may block."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from loguru import logger

from app.errors import PlatformError

SAMPLE_S = 0.25
SLACK_S = 0.5  # wall seconds a frame may be on its way


class Clock(Protocol):
    """Exchange time (app.services.clock)."""

    def now_us(self) -> int:
        """The exchange's time in µs; may block, may raise PlatformError."""


class Pace:
    """Samples of the clock. What it said `SLACK_S` ago is a time up to which a quiet connection has told all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=64)
        self._away = False

    async def now_us(self) -> int:
        """The exchange's time, asked now; raises PlatformError."""
        now_us = await asyncio.to_thread(self._clock.now_us)
        self._samples.append((time.monotonic(), now_us))
        return now_us

    def settled_us(self) -> int | None:
        """The exchange's time of `SLACK_S` (and no more than a second) ago; None with the clock away."""
        newest = time.monotonic() - SLACK_S
        found = [now_us for at_s, now_us in self._samples if newest - 1.0 <= at_s <= newest]
        return found[-1] if found else None

    def lag_ms(self, last_event_us: int) -> int | None:
        """How far the newest event is behind the exchange's clock; None as long as either is unknown."""
        if not self._samples or not last_event_us:
            return None
        return (self._samples[-1][1] - last_event_us) // 1000

    async def run(self) -> None:
        """Samples until it is cancelled."""
        while True:
            try:
                await self.now_us()
                self._away = False
            except (PlatformError, OSError) as error:
                if not self._away:
                    logger.warning("the exchange's clock does not answer: {}", error)
                self._away = True
            await asyncio.sleep(SAMPLE_S)
