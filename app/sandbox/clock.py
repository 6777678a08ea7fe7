"""The market's clock: exchange time = start + (wall - anchor) × speed."""

from __future__ import annotations

from collections.abc import Callable


class MarketClock:
    """A clock that can wait for its start, run at any speed and be started anew; all times in µs."""

    def __init__(self, wall_us: Callable[[], int], *, start_us: int, speed: float, running: bool) -> None:
        self._wall_us = wall_us
        self.start_us = start_us
        self.speed = speed
        self.running = running
        self.epoch = 1
        self._anchor_us = wall_us()
        self._floor_us = start_us

    def now_us(self) -> int:
        """The exchange's time; never goes back within an epoch."""
        return self._at(self._wall_us())

    def _at(self, wall_us: int) -> int:
        if self.running:
            passed = max(0, wall_us - self._anchor_us)
            self._floor_us = max(self._floor_us, self.start_us + int(passed * self.speed))
        return self._floor_us

    def push(self, time_us: int) -> None:
        """Make `time_us` the past: the clock shows at least that from now on."""
        self._floor_us = max(self._floor_us, time_us)

    def restart(self, *, start_us: int | None = None, speed: float | None = None, running: bool = True) -> None:
        """Begin a new epoch at `start_us` (default: the start it had), or wait there for the next one."""
        self.start_us = self.start_us if start_us is None else start_us
        self.speed = self.speed if speed is None else speed
        self._floor_us = self.start_us
        self._anchor_us = self._wall_us()
        self.running = running
        self.epoch += 1

    def describe(self) -> dict[str, int | float | bool]:
        """What `GET /sandbox/clock` answers; the speed is 0 while the clock waits for its start."""
        wall_us = self._wall_us()
        return {
            "exchange_us": self._at(wall_us),
            "speed": self.speed if self.running else 0.0,
            "wall_us": wall_us,
            "epoch": self.epoch,
            "start_us": self.start_us,
        }
