"""The platform's one clock of exchange time: the machine's with a live market, the sandbox's with a simulated one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from app.errors import SourceError


class Anchor(NamedTuple):
    """The simulated clock said `exchange_us` at wall time `wall_us` and runs `speed` times as fast."""

    exchange_us: int
    wall_us: int
    speed: float


def wall_us() -> int:
    """The machine's time in µs."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class ExchangeClock:
    """Exchange time; `ask` is None with a live market, else it asks the simulated one."""

    ask: Callable[[], Anchor] | None = None
    refresh_s: float = 5.0
    _anchor: Anchor | None = None
    _asked: float = -1e9
    _lock: Lock = field(default_factory=Lock)

    def now_us(self) -> int:
        """Exchange time in µs; raises SourceError where the simulated clock was never reached."""
        if self.ask is None:
            return wall_us()
        with self._lock:
            if time.monotonic() - self._asked > self.refresh_s:
                self._refresh()
            anchor = self._anchor
        if anchor is None:
            raise SourceError("the simulated market's clock does not answer")
        return anchor.exchange_us + int((wall_us() - anchor.wall_us) * anchor.speed)

    @property
    def speed(self) -> float:
        """Exchange seconds per wall second."""
        return 1.0 if self.ask is None or self._anchor is None else self._anchor.speed

    def _refresh(self) -> None:
        assert self.ask is not None
        try:
            self._anchor = self.ask()
        except SourceError:
            if self._anchor is None:
                raise  # an anchor once known goes on serving while the sandbox restarts
        self._asked = time.monotonic()
