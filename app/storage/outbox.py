"""The outbox: what has to be derived again, written with its cause, and the statements that derive bars from bars.

A mark is (instrument, [lo, hi]) of 1m bars. Stages: `rollup` → `indicators` → `publish`. Append only: a writer never
waits for the one who settles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.outbox import Span
from app.domain.timeframes import Timeframe
from app.storage.arrays import literal
from app.storage.keys import by_day, within
from app.storage.sql import sql


def lock(connection: sa.Connection, shard: int) -> bool:
    """Takes the shard's derivation lock until the transaction ends; False where somebody else has it."""
    return bool(connection.execute(sql("settle", "lock"), {"shard": shard}).scalar())


def take(connection: sa.Connection, stage: str, *, shard: int = 0, shards: int = 1, limit: int = 500) -> list[Span]:
    """Removes and returns the oldest marks of a stage; they come back if the transaction does not commit."""
    values = {"stage": stage, "shard": shard, "shards": shards, "limit": limit}
    return [Span(*row) for row in connection.execute(sql("settle", "take"), values)]


def mark(connection: sa.Connection, stage: str, stretches: Sequence[Span]) -> None:
    """Asks for a stage over stretches, in the transaction of the cause."""
    if stretches:
        connection.execute(sql("settle", "mark"), {"stage": stage, **_arrays(stretches)})


def left(connection: sa.Connection, stretch: Span) -> int:
    """How many marks of derivation still touch the stretch."""
    values = {"instrument_id": stretch.instrument_id, "lo": stretch.lo_ms, "hi": stretch.hi_ms}
    return int(connection.execute(sql("settle", "left"), values).scalar_one())


def pending(connection: sa.Connection) -> dict[str, tuple[int, float]]:
    """Stage → (marks waiting, age in s of the oldest)."""
    return {row[0]: (row[1], row[3]) for row in connection.execute(sql("settle", "pending"))}


def proven_flats(
    connection: sa.Connection, stretches: Sequence[Span], *, lo_ms: int, hi_ms: int
) -> list[tuple[int, int]]:
    """Inserts the flat bars that ids prove around the stretches; returns their (instrument, time ms).

    lo_ms and hi_ms are constant time bounds [lo, hi): without them a hypertable opens every chunk.
    """
    return _keys(connection, "proven_flats", stretches, lo_ms, hi_ms)


def fix_flats(connection: sa.Connection, stretches: Sequence[Span], *, lo_ms: int, hi_ms: int) -> list[tuple[int, int]]:
    """Gives the flat bars behind the stretches the close before them; returns those that changed."""
    return _keys(connection, "fix_flats", stretches, lo_ms, hi_ms)


def roll_up(
    connection: sa.Connection,
    tf: Timeframe,
    buckets: Mapping[int, Iterable[int]],
    *,
    whole: Collection[tuple[int, int]] = (),
    natives: Collection[int] = (),
    others: Collection[tuple[int, int]] = (),
) -> int:
    """Makes the bars of `tf` anew at instrument id → bucket starts (ms); returns how many changed.

    `whole` are the (instrument, start) that are complete though not every child is there, as on exchanges without
    flat bars; `natives` the instruments whose own bar of this timeframe gives way to no roll-up. `others` are
    4h bars (instrument, start) that are not part of the 1d bar of their date.
    """
    pairs = _pairs(buckets)
    if not pairs:
        return 0
    values = {
        **_buckets(pairs, tf),
        "wholes": literal(pair in whole for pair in pairs),
        "instruments": literal(sorted(buckets)),
        "natives": literal(sorted(natives)),
        **_others(tf, others),
    }
    return connection.execute(sql("settle", "rollup", tf), values).rowcount


def doubt_days(connection: sa.Connection, days: Mapping[int, Iterable[int]]) -> None:
    """Has the source's own 1d bars of instrument id → days (ms) asked for again: minutes of theirs changed."""
    if pairs := _pairs(days):
        connection.execute(sql("settle", "doubt_days"), within(pairs))


def clear(
    connection: sa.Connection,
    tf: Timeframe,
    buckets: Mapping[int, Iterable[int]],
    *,
    others: Collection[tuple[int, int]] = (),
) -> None:
    """Deletes rolled-up bars, and their indicators, of buckets (instrument id → starts) that hold nothing any more.

    `others` as in roll_up().
    """
    if pairs := _pairs(buckets):
        values = within(pairs) | _others(tf, others)
        rows = connection.execute(sql("settle", "empty", tf), {**values, "end": values["hi"] + tf.ms})
        for day in by_day((row[0], row[1]) for row in rows.all()):
            if gone := [(row[0], row[1]) for row in connection.execute(sql("settle", "clear", tf), day)]:
                connection.execute(sql("settle", "clear_indicators", tf), within(gone))


def _pairs(buckets: Mapping[int, Iterable[int]]) -> list[tuple[int, int]]:
    return sorted({(instrument, bucket) for instrument, starts in buckets.items() for bucket in starts})


def _buckets(pairs: Sequence[tuple[int, int]], tf: Timeframe) -> dict[str, Any]:
    return {
        "bucket_instruments": literal(pair[0] for pair in pairs),
        "buckets": literal(pair[1] for pair in pairs),
        "lo": min(pair[1] for pair in pairs),
        "hi": max(pair[1] for pair in pairs) + tf.ms,
    }


def _others(tf: Timeframe, others: Collection[tuple[int, int]]) -> dict[str, Any]:
    ordered = sorted(others) if tf is Timeframe.D1 else []
    return {
        "other_instruments": literal(pair[0] for pair in ordered),
        "other_times": literal(pair[1] for pair in ordered),
    }


def _keys(
    connection: sa.Connection, block: str, stretches: Sequence[Span], lo_ms: int, hi_ms: int
) -> list[tuple[int, int]]:
    if not stretches:
        return []
    values = {**_arrays(stretches), "lo": lo_ms, "hi": hi_ms}
    return [(row[0], row[1]) for row in connection.execute(sql("settle", block), values)]


def _arrays(stretches: Sequence[Span]) -> dict[str, Any]:
    ordered = sorted(stretches)
    return {
        "instrument_id": literal(item.instrument_id for item in ordered),
        "lows": literal(item.lo_ms for item in ordered),
        "highs": literal(item.hi_ms for item in ordered),
    }
