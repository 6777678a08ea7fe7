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
            day = f"{datetime.fromtimestamp(item.start_ms / 1000, UTC):%Y-%m-%d}"
            print(f"kept from now on, of every symbol: all {', '.join(moved)} bars from {day} on")
