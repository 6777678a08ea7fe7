"""History as values: what is missing, and what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.timeframes import Timeframe

# Causes of holes in which nothing is missing: a bar stands there, and is fetched once more.
LATE, CORRECTED, CANCELLED, UNEQUAL = "late trade", "correction", "cancel", "roll-up differs"
RECHECKS = (LATE, CORRECTED, CANCELLED, UNEQUAL)


class Hole(NamedTuple):
    """A stretch [lo, hi) of 1m bars of one instrument that is missing or in doubt, and why."""

    id: int
    instrument_id: int
    lo_ms: int
    hi_ms: int
    cause: str
    attempts: int
    age_s: float
    first_id: int | None = None  # the missing trade ids [first_id, last_id], where they are known
    last_id: int | None = None


class Backfill(NamedTuple):
    """History of one instrument and timeframe, [lo, hi); everything before `cursor_ms` is stored."""

    id: int
    instrument_id: int
    timeframe: Timeframe
    lo_ms: int
    hi_ms: int
    cursor_ms: int
    state: str  # waiting, running, done, failed, cancelled
    bars: int
    error: str | None
    asked_by: str = "user"  # user, start, daily
    started_ms: int | None = None  # wall time, as the next ones
    updated_ms: int = 0
    lease_us: int | None = None  # nobody takes it up before: it waits for its source, or a worker has it
    empty_to_ms: int | None = None  # the source has nothing in [lo, empty_to)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in {"waiting", "running"}

    @property
    def share(self) -> float:
        """How much of the range is behind it, from 0 to 1."""
        return 1.0 if self.state == "done" else (self.cursor_ms - self.lo_ms) / (self.hi_ms - self.lo_ms)

    @property
    def pace(self) -> Pace:
        """How fast it goes."""
        return pace([self])


class ListedBackfill(NamedTuple):
    """A backfill with the names of its instrument."""

    backfill: Backfill
    exchange: str
    symbol: str


class Pace(NamedTuple):
    """How far some backfills are together, and how fast; the waits for their sources count in."""

    bars: int
    share: float  # of all their ranges, from 0 to 1
    took_s: float  # from the first one's start to the last progress

    @property
    def rate(self) -> float | None:
        """Bars a second so far; None before the first."""
        return self.bars / self.took_s if self.bars and self.took_s else None

    @property
    def left_s(self) -> float | None:
        """Time left, if it goes on as it went; None where nothing tells."""
        if self.share >= 1:
            return 0.0
        return self.took_s * (1 - self.share) / self.share if self.share and self.took_s else None


def pace(items: Sequence[Backfill]) -> Pace:
    """How far and how fast these (one or more) are; one that is over is all behind us."""
    began = [item.started_ms for item in items if item.started_ms is not None]
    ended = max(item.updated_ms for item in items)
    share = sum(1.0 if item.over else item.share for item in items) / len(items)
    took_s = max(0.0, (ended - min(began)) / 1000) if began else 0.0
    return Pace(sum(item.bars for item in items), share, took_s)
