"""Backfills: history asked for, who works on it, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.domain.history import Backfill, ListedBackfill
from app.domain.timeframes import Timeframe
from app.storage.sql import sql
from app.storage.tables import backfills as table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ACTIVE = table.c.state.in_(("waiting", "running"))


def create(
    connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int, *, asked_by: str = "user"
) -> int:
    """Asks for [lo, hi); returns the backfill's id."""
    row = _row(instrument_id, tf, lo_ms, hi_ms, asked_by)
    return int(connection.execute(sa.insert(table).values(**row).returning(table.c.id)).scalar_one())


def create_all(
    connection: sa.Connection, tf: Timeframe, stretches: Sequence[tuple[int, int, int]], *, asked_by: str = "start"
) -> None:
    """Asks for many (instrument id, lo, hi) in one statement."""
    rows = [_row(i, tf, lo, hi, asked_by) for i, lo, hi in stretches]
    if rows:
        connection.execute(sa.insert(table).values(rows))


def get(connection: sa.Connection, backfill_id: int) -> Backfill | None:
    """The backfill."""
    row = connection.execute(sa.select(table).where(table.c.id == backfill_id)).first()
    return None if row is None else _backfill(row)


def recent(connection: sa.Connection, *, limit: int = 20, ids: Sequence[int] | None = None) -> list[Backfill]:
    """Those at work or waiting, then the newest of the others; with `ids` just these, by id."""
    query = sa.select(table).order_by(~_ACTIVE, table.c.id.desc()).limit(limit)
    if ids is not None:
        query = sa.select(table).where(table.c.id.in_(ids)).order_by(table.c.id)
    return [_backfill(row) for row in connection.execute(query)]


def listed(
    connection: sa.Connection,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    ids: Sequence[int] | None = None,
    active_only: bool = False,
    running_first: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> list[ListedBackfill]:
    """Backfills with the names of their instruments, newest first, or those at work before those that wait."""
    values = {
        "exchange": exchange, "symbol": symbol, "ids": None if ids is None else list(ids), "active": active_only,
        "running_first": running_first, "before": before, "limit": limit,
    }  # fmt: skip
    rows = connection.execute(sql("backfills", "listed"), values)
    return [ListedBackfill(_backfill(row), row.exchange, row.symbol) for row in rows]


def at_work(connection: sa.Connection) -> tuple[int, int]:
    """How many are worked on, and how many are not over, those included."""
    running, active = connection.execute(sql("backfills", "at_work")).one()
    return int(running), int(active)


def claim(connection: sa.Connection, *, most: int, stale_s: float, retry_s: float) -> list[int]:
    """The ids of backfills to start now: those whose worker is gone, then waiting ones, `most` at work.

    Who had no turn for longest comes first, so that many go on together. In one statement, and they count as advanced
    with it: two who ask at once, or soon again, never start one twice. One that waits for its source waits until the
    moment noted, or `retry_s` where none is.
    """
    now = sa.func.clock_timestamp()
    age_s = sa.extract("epoch", now - table.c.updated)
    gone = sa.func.coalesce(table.c.not_before < now, age_s > stale_s)
    fresh = sa.select(sa.func.count()).select_from(table).where(table.c.state == "running", ~gone).scalar_subquery()
    running, waiting = table.c.state == "running", table.c.state == "waiting"
    rested = sa.func.coalesce(table.c.not_before <= now, sa.or_(table.c.error.is_(None), age_s > retry_s))
    ready = sa.or_(sa.and_(running, gone), sa.and_(waiting, rested))
    due = sa.select(table.c.id).where(ready).order_by(~running, table.c.updated, table.c.id)
    due = due.limit(sa.func.greatest(most - fresh, 0)).with_for_update(skip_locked=True)
    taken = sa.update(table).where(table.c.id.in_(due)).values(state="running", updated=now, not_before=None)
    return sorted(connection.execute(taken.returning(table.c.id)).scalars())


def begin(connection: sa.Connection, backfill_id: int, *, lease_s: float) -> Backfill | None:
    """Takes the backfill up; None where it is over, somebody has it, or one that overlaps it is at work."""
    connection.execute(sql("backfills", "series_lock"), {"id": backfill_id})
    row = connection.execute(sql("backfills", "begin"), {"id": backfill_id, "lease_s": lease_s}).first()
    if row is None:
        connection.execute(sql("backfills", "give_way"), {"id": backfill_id})
    return None if row is None else _backfill(row)


def advance(
    connection: sa.Connection,
    item: Backfill,
    *,
    cursor_ms: int,
    bars: int,
    lease_s: float,
    empty_to_ms: int | None = None,
) -> Backfill | None:
    """Notes progress: everything before `cursor_ms` is stored, `bars` more than before; done at the range's end.

    None, and nothing noted, where it was cancelled or another worker has taken it over.
    """
    now = sa.func.clock_timestamp()
    done = cursor_ms >= item.hi_ms
    values: dict[str, Any] = {"cursor": _time(cursor_ms), "bars": table.c.bars + bars, "updated": now}
    values |= {"state": "done" if done else "running", "not_before": None if done else now + timedelta(seconds=lease_s)}
    if empty_to_ms is not None:
        values["empty_to"] = _time(empty_to_ms)
    row = connection.execute(sa.update(table).where(_mine(item)).values(**values).returning(table)).first()
    return None if row is None else _backfill(row)


def leave(
    connection: sa.Connection, item: Backfill, *, state: str, error: str | None = None, wait_s: float | None = None
) -> None:
    """Lets go of the backfill, which waits (at least `wait_s`) or has failed; another worker's is left alone."""
    now = sa.func.clock_timestamp()
    until = None if wait_s is None else now + timedelta(seconds=wait_s)
    values = {"state": state, "error": error, "updated": now, "not_before": until}
    connection.execute(sa.update(table).where(_mine(item)).values(**values))


def cancel(connection: sa.Connection, backfill_id: int) -> bool:
    """Ends the backfill within a chunk; what is stored stays. False where it was over, or is not there."""
    values = {"state": "cancelled", "updated": sa.func.clock_timestamp(), "not_before": None}
    statement = sa.update(table).where(table.c.id == backfill_id, _ACTIVE).values(**values)
    return connection.execute(statement).rowcount > 0


def empties(connection: sa.Connection, instrument_id: int, tf: Timeframe) -> list[tuple[int, int]]:
    """The stretches before the series' first bar in which the source was found to have nothing."""
    values = {"instrument_id": instrument_id, "timeframe": tf.value}
    return [(row[0], row[1]) for row in connection.execute(sql("backfills", "empties"), values)]


def unverified(
    connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int, *, flats: bool
) -> list[tuple[int, int]]:
    """The stretches of [lo, hi) without verified bars; where there are no flat bars, those in doubt."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms, "step": tf.ms}
    rows = connection.execute(sql("backfills", "unverified" if flats else "doubtful", tf), values)
    return [(tf.floor(row[0]), -(-row[1] // tf.ms) * tf.ms) for row in rows]


def count(connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int) -> int:
    """How many verified bars [lo, hi) has."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms}
    return int(connection.execute(sql("backfills", "count", tf), values).scalar_one())


def any_before(connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int) -> bool:
    """Whether the series has a bar before `lo_ms`."""
    values = {"instrument_id": instrument_id, "lo": lo_ms}
    return bool(connection.execute(sql("backfills", "any_before", tf), values).scalar_one())


def revisions(connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int) -> dict[int, int]:
    """Start (ms) → revision of the verified bars of [lo, hi)."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms}
    return {row[0]: row[1] for row in connection.execute(sql("backfills", "revisions", tf), values)}


def _mine(item: Backfill) -> sa.ColumnElement[bool]:
    """Whether it is still this worker's: its lease is the one it took."""
    lease = None if item.lease_us is None else _EPOCH + timedelta(microseconds=item.lease_us)
    return sa.and_(table.c.id == item.id, table.c.state == "running", table.c.not_before == lease)


def _row(instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int, asked_by: str) -> dict[str, Any]:
    times = {"lo": _time(lo_ms), "hi": _time(hi_ms), "cursor": _time(lo_ms)}
    return {
        "instrument_id": instrument_id, "timeframe": tf.value, **times, "state": "waiting", "asked_by": asked_by,
    }  # fmt: skip


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _ms(time: datetime | None) -> int | None:
    return None if time is None else _us(time) // 1000


def _backfill(row: sa.Row[Any]) -> Backfill:
    return Backfill(
        row.id, row.instrument_id, Timeframe(row.timeframe), _us(row.lo) // 1000, _us(row.hi) // 1000,
        _us(row.cursor) // 1000, row.state, row.bars, row.error, row.asked_by, _ms(row.started),
        _us(row.updated) // 1000, None if row.not_before is None else _us(row.not_before), _ms(row.empty_to),
    )  # fmt: skip
