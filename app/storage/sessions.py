"""Trading sessions in the database: written by upkeep from the calendars, read by everyone."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from app.domain.sessions import ALWAYS, Session, always
from app.storage.arrays import literal
from app.storage.sql import sql


def put(connection: sa.Connection, calendar: str, found: Sequence[Session]) -> int:
    """Stores sessions, which replace those of the same date; returns how many are new or changed."""
    if not found:
        return 0
    columns = dict(zip(("dates", "opens", "closes"), map(literal, zip(*found, strict=True)), strict=True))
    return connection.execute(sql("sessions", "put"), {**columns, "calendar": calendar}).rowcount


def read(connection: sa.Connection, calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
    """The sessions that touch [lo, hi) ms, a day of margin on either side, oldest first."""
    if calendar == ALWAYS:
        return always(lo_ms, hi_ms)
    rows = connection.execute(sql("sessions", "read"), {"calendar": calendar, "lo": lo_ms, "hi": hi_ms})
    return [Session(*row) for row in rows]


def last(connection: sa.Connection, calendar: str) -> int | None:
    """The date (ms) of the newest session stored for the calendar."""
    found: int | None = connection.execute(sql("sessions", "last"), {"calendar": calendar}).scalar()
    return found
