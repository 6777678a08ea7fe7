"""Backfills: history asked for, and how far it has come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.domain.history import Backfill
from app.domain.timeframes import Timeframe
from app.storage.tables import backfills as table


def create(connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int) -> int:
    """Asks for [lo, hi); returns the backfill's id."""
    row = {"instrument_id": instrument_id, "timeframe": tf.value, "lo": _time(lo_ms), "hi": _time(hi_ms)}
    statement = sa.insert(table).values(**row, cursor=_time(lo_ms), state="waiting").returning(table.c.id)
    return int(connection.execute(statement).scalar_one())


def get(connection: sa.Connection, backfill_id: int, *, lock: bool = False) -> Backfill | None:
    """The backfill; `lock` keeps others off it until the transaction ends."""
    query = sa.select(table).where(table.c.id == backfill_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _backfill(row)


def unfinished(connection: sa.Connection, *, stale_s: float = 0) -> list[Backfill]:
    """Backfills waiting or running; `stale_s` keeps only those that nobody advanced for so long."""
    query = sa.select(table).where(table.c.state.in_(("waiting", "running"))).order_by(table.c.id)
    if stale_s:
        query = query.where(
            table.c.updated < sa.func.clock_timestamp() - sa.text(f"interval '{float(stale_s)} seconds'")
        )
    return [_backfill(row) for row in connection.execute(query)]


def advance(
    connection: sa.Connection, item: Backfill, *, cursor_ms: int, bars: int, state: str, error: str | None = None
) -> None:
    """Notes progress: everything before `cursor_ms` is stored, `bars` more than before."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == item.id)
        .values(
            cursor=_time(cursor_ms),
            bars=table.c.bars + bars,
            state=state,
            error=error,
            updated=sa.func.clock_timestamp(),
        )
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _backfill(row: sa.Row[Any]) -> Backfill:
    return Backfill(
        row.id, row.instrument_id, Timeframe(row.timeframe), _ms(row.lo), _ms(row.hi), _ms(row.cursor), row.state,
        row.bars, row.error,
    )  # fmt: skip
