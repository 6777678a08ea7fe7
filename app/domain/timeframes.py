"""The six timeframes. A bar covers [start, start + length) UTC, aligned to the epoch, labelled by its start."""

from __future__ import annotations

from enum import StrEnum

MINUTE_MS = 60_000
MINUTE_US = 60_000_000
DAY_MS = 86_400_000


class Timeframe(StrEnum):
    """One bar length; its value is the name users write."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def minutes(self) -> int:
        """The length in minutes."""
        return _MINUTES[self]

    @property
    def ms(self) -> int:
        """The length in milliseconds."""
        return _MINUTES[self] * MINUTE_MS

    @property
    def below(self) -> Timeframe | None:
        """The timeframe this one is rolled up from; None for 1m."""
        order = list(Timeframe)
        place = order.index(self)
        return order[place - 1] if place else None

    def floor(self, time_ms: int) -> int:
        """The start (ms) of the bar that holds `time_ms`."""
        return time_ms - time_ms % self.ms


_MINUTES = {
    Timeframe.M1: 1,
    Timeframe.M5: 5,
    Timeframe.M15: 15,
    Timeframe.H1: 60,
    Timeframe.H4: 240,
    Timeframe.D1: 1440,
}

ROLLUPS: tuple[Timeframe, ...] = tuple(tf for tf in Timeframe if tf is not Timeframe.M1)
