"""What comes in from outside is to stay: it is refused, or kept, where it is older than bars are kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.timeframes import Timeframe
from app.services.retention import admit
from app.storage import retention


class Arrival(NamedTuple):
    """Bars that are to come in."""

    what: str  # a backfill, a file
    timeframe: Timeframe
    start_ms: int


def admit_all(connection: sa.Connection, arrivals: Iterable[Arrival], *, keep: bool) -> None:
    """Lets them in, and says what is kept for them; raises NotKept for the first that would be deleted again."""
    for item in arrivals:
        moved = admit(retention, connection, item.timeframe, item.start_ms, keep=keep, what=item.what)
        if moved:
            say_kept(moved, item.start_ms)


def say_kept(timeframes: Iterable[Timeframe], start_ms: int) -> None:
    """Says what is kept from now on."""
    day = f"{datetime.fromtimestamp(start_ms / 1000, UTC):%Y-%m-%d}"
    print(f"kept from now on, of every symbol: all {', '.join(timeframes)} bars from {day} on")
