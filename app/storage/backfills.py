"""Backfills: history asked for, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
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


def create_all(connection: sa.Connection, tf: Timeframe, stretches: Sequence[tuple[int, int, int]]) -> None:
    """Asks for many (instrument id, lo, hi) in one statement."""
    rows = [
        {
            "instrument_id": i,
            "timeframe": tf.value,
            "lo": _time(lo),
            "hi": _time(hi),
            "cursor": _time(lo),
            "state": "waiting",
        }
        for i, lo, hi in stretches
    ]
    if rows:
        connection.execute(sa.insert(table).values(rows))


def get(connection: sa.Connection, backfill_id: int, *, lock: bool = False) -> Backfill | None:
    """The backfill; `lock` keeps others off it until the transaction ends."""
    query = sa.select(table).where(table.c.id == backfill_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _backfill(row)


def claim(connection: sa.Connection, *, most: int, stale_s: float, retry_s: float) -> list[int]:
    """The ids of backfills to start now: those nobody advanced for `stale_s`, then waiting ones, `most` at work.

    In one statement, and they count as advanced with it: two who ask at once, or soon again, never start one twice.
    One that waits with an error waits `retry_s` before it is tried again.
    """
    age_s = sa.extract("epoch", sa.func.clock_timestamp() - table.c.updated)
    old = age_s > stale_s
    fresh = sa.select(sa.func.count()).select_from(table).where(table.c.state == "running", ~old).scalar_subquery()
    running, waiting = table.c.state == "running", table.c.state == "waiting"
    ready = sa.or_(sa.and_(running, old), sa.and_(waiting, sa.or_(table.c.error.is_(None), age_s > retry_s)))
    due = sa.select(table.c.id).where(ready).order_by(~running, table.c.id)
    due = due.limit(sa.func.greatest(most - fresh, 0)).with_for_update(skip_locked=True)
    taken = sa.update(table).where(table.c.id.in_(due)).values(state="running", updated=sa.func.clock_timestamp())
    return sorted(connection.execute(taken.returning(table.c.id)).scalars())


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
