"""Closing minutes: which open bars are over, and the flat bars at the edge of a connected feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import sqlalchemy as sa

from app.domain.history import RECHECKS
from app.domain.outbox import Due
from app.domain.timeframes import DAY_MS, ROLLUPS, Timeframe
from app.storage.arrays import literal
from app.storage.keys import Key, by_day, locked, unlocked, within
from app.storage.sql import sql, timed

RECENT_MS = 8 * DAY_MS  # a week, and a day for the bar of a day


def oldest_open(connection: sa.Connection, instruments: Iterable[int], *, from_ms: int) -> int | None:
    """The start (ms) of the oldest open 1m bar of these instruments at or after `from_ms`."""
    values = {"instruments": literal(instruments), "lo": from_ms}
    found: int | None = connection.execute(sql("closing", "oldest_open"), values).scalar()
    return found


def close(connection: sa.Connection, due: Sequence[Due], *, lo_ms: int) -> int:
    """Closes what is due from lo_ms on and marks it for roll-up; returns how many bars."""
    if not due:
        return 0
    values = {
        "instrument_id": literal(item.instrument_id for item in due), "lows": literal(item.lo_ms for item in due),
        "highs": literal(item.hi_ms for item in due), "idles": literal(float(item.idle_s) for item in due),
        "instruments": literal(sorted({item.instrument_id for item in due})),
        "lo": lo_ms, "hi": max(item.hi_ms for item in due),
    }  # fmt: skip
    rows = locked(connection, sql("closing", "due"), values)
    if rows is None:
        rows = connection.execute(unlocked(sql("closing", "due")), values).all()
    return int(connection.execute(sql("closing", "close"), within(_keys(rows))).one()[0]) if rows else 0


def drop_unpriced(connection: sa.Connection, edges: Mapping[int, int], *, lo_ms: int) -> int:
    """Deletes open minutes before each instrument's edge (id → ms) that never had a print with a price."""
    if not edges:
        return 0
    values = {
        "instrument_id": literal(edges), "highs": literal(edges.values()), "lo": lo_ms, "hi": max(edges.values()),
    }  # fmt: skip
    keys = _keys(connection.execute(sql("closing", "unpriced"), values))
    return sum(connection.execute(sql("closing", "drop_unpriced"), day).rowcount for day in by_day(keys))


def settle(connection: sa.Connection, edges: Mapping[int, int]) -> int:
    """Notes that instruments without flat bars are complete up to their edge (id → ms); returns how many moved on."""
    if not edges:
        return 0
    values = {"instrument_id": literal(edges), "highs": literal(edges.values())}
    return connection.execute(sql("closing", "settle"), values).rowcount


def ripen(connection: sa.Connection, *, everything: bool = True) -> int:
    """Marks the open longer bars of such instruments whose end has passed; returns how many.

    Without `everything` only those of the last week before the newest edge.
    """
    until: int | None = connection.execute(sql("closing", "settled_until")).scalar()
    if until is None:
        return 0
    values = {"lo": 0 if everything else until - RECENT_MS, "rechecks": list(RECHECKS)}
    found = connection.execute(_ripening(), values).scalars().all()
    return sum(connection.execute(sql("closing", "ripe", Timeframe(tf)), values).rowcount for tf in found)


def whole(connection: sa.Connection, tf: Timeframe, buckets: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the (instrument without flat bars, bucket start ms) that are complete with the minutes there are."""
    pairs = sorted(buckets)
    if not pairs:
        return set()
    values = {**within(pairs), "rechecks": list(RECHECKS)}
    values["hi"] += tf.ms
    return set(_keys(connection.execute(sql("closing", "whole", tf), values)))


def trailing_flats(
    connection: sa.Connection, instruments: Sequence[tuple[int, int, int]], *, lo_ms: int, hi_ms: int
) -> int:
    """Flat bars for (instrument, since ms, hi ms): quiet minutes before hi, after a bar at or after since."""
    if not instruments:
        return 0
    values = {
        "instrument_id": literal(item[0] for item in instruments), "sinces": literal(item[1] for item in instruments),
        "highs": literal(item[2] for item in instruments), "lo": lo_ms, "hi": hi_ms,
    }  # fmt: skip
    return int(connection.execute(sql("closing", "trailing_flats"), values).one()[0])


def open_left(connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int) -> int:
    """How many 1m bars of [lo, hi] (both inclusive) are still open."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms}
    return int(connection.execute(sql("closing", "open_left"), values).scalar_one())


@cache
def _ripening() -> sa.TextClause:
    """Which timeframes have something to ripen, in one question."""
    return timed(" UNION ALL ".join(sql("closing", "ripening", tf).text for tf in ROLLUPS))


def _keys(rows: Iterable[Sequence[int]]) -> list[Key]:
    return [(row[0], row[1]) for row in rows]
