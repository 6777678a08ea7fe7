"""Figures of the stored series that only metrics ask for."""

from __future__ import annotations

import sqlalchemy as sa

from app.storage.sql import sql


def oldest_open(connection: sa.Connection, since_ms: int) -> dict[str, int]:
    """Exchange → when its oldest open 1m bar since then began, ms; one without any is left out."""
    return {row[0]: int(row[1]) for row in connection.execute(sql("figures", "oldest_open"), {"since": since_ms})}


def open_holes(connection: sa.Connection) -> dict[str, tuple[int, float]]:
    """Exchange → how many holes wait for repair, and for how many seconds the oldest; one without any is left out.

    Those of symbols that are not collected any more do not count.
    """
    return {row[0]: (int(row[1]), float(row[2])) for row in connection.execute(sql("figures", "open_holes"))}


def unverified(connection: sa.Connection, since_ms: int) -> dict[str, int]:
    """Exchange → how many closed 1m bars since then are not verified."""
    return {row[0]: int(row[1]) for row in connection.execute(sql("figures", "unverified"), {"since": since_ms})}
