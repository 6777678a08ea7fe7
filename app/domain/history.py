"""History as values: what is missing, and what was asked for."""

from __future__ import annotations

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
