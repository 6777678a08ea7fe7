"""Closing minutes: which open bars are over, and the flat bars at the edge of a connected feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from app.domain.history import RECHECKS
from app.domain.outbox import Due
from app.domain.timeframes import ROLLUPS, Timeframe
from app.storage.arrays import literal
from app.storage.sql import sql


def oldest_open(connection: sa.Connection) -> int | None:
    """The start (ms) of the oldest open 1m bar."""
    found: int | None = connection.execute(sql("closing", "oldest_open")).scalar()
    return found


def close(connection: sa.Connection, due: Sequence[Due], *, lo_ms: int) -> int:
    """Closes what is due from lo_ms on and marks it for roll-up; returns how many bars."""
    if not due:
        return 0
    values = {
        "instrument_id": literal(item.instrument_id for item in due), "lows": literal(item.lo_ms for item in due),
        "highs": literal(item.hi_ms for item in due), "idles": literal(float(item.idle_s) for item in due),
        "lo": lo_ms, "hi": max(item.hi_ms for item in due),
    }  # fmt: skip
    return int(connection.execute(sql("closing", "close"), values).one()[0])


def drop_unpriced(connection: sa.Connection, edges: Mapping[int, int], *, lo_ms: int) -> int:
    """Deletes open minutes before each instrument's edge (id → ms) that never had a print with a price."""
    if not edges:
        return 0
    values = {
        "instrument_id": literal(edges), "highs": literal(edges.values()), "lo": lo_ms, "hi": max(edges.values()),
    }  # fmt: skip
    return connection.execute(sql("closing", "drop_unpriced"), values).rowcount


def settle(connection: sa.Connection, edges: Mapping[int, int]) -> int:
    """Notes that instruments without flat bars are complete up to their edge (id → ms); returns how many moved on."""
    if not edges:
        return 0
    values = {"instrument_id": literal(edges), "highs": literal(edges.values())}
    return connection.execute(sql("closing", "settle"), values).rowcount


def ripen(connection: sa.Connection) -> int:
    """Marks the open longer bars of such instruments whose end has passed; returns how many."""
    marked = 0
    for tf in ROLLUPS:
        lo_ms = connection.execute(sql("closing", "oldest_open_longer", tf)).scalar()
        if lo_ms is not None:
            values = {"lo": lo_ms, "rechecks": list(RECHECKS)}
            marked += connection.execute(sql("closing", "ripe", tf), values).rowcount
    return marked


def whole(connection: sa.Connection, tf: Timeframe, buckets: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the (instrument without flat bars, bucket start ms) that are complete with the minutes there are."""
    pairs = sorted(buckets)
    if not pairs:
        return set()
    values = {
        "instrument_id": literal(pair[0] for pair in pairs), "time": literal(pair[1] for pair in pairs),
        "rechecks": list(RECHECKS),
    }  # fmt: skip
    return {(row[0], row[1]) for row in connection.execute(sql("closing", "whole", tf), values)}


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
