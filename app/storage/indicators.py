"""Indicators in the database, the columns of bars they are computed from, and their stage of the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from app.domain.indicator_names import INDICATORS
from app.domain.indicators import BarColumns, IndicatorColumns
from app.domain.outbox import Amounts, Mark, Span
from app.domain.timeframes import DAY_MS, Timeframe
from app.storage import outbox
from app.storage.arrays import Y2000_MS, literal, records
from app.storage.keys import near
from app.storage.sql import sql, timed

LONG_MS = 7 * DAY_MS
COLUMNS = np.dtype([("time", ">i8"), *((name, ">f8") for name in INDICATORS)])
"""The bytes of a row as `columns` reads it."""


def read(
    connection: sa.Connection, instrument_id: int, tf: Timeframe, *, start_ms: int, end_ms: int
) -> list[dict[str, int | float | None]]:
    """The stored values of the bars with start_ms <= time < end_ms, oldest first: {"time": ms, name: value or None}."""
    return [row for _, row in read_many(connection, [instrument_id], tf, start_ms=start_ms, end_ms=end_ms)]


def read_many(
    connection: sa.Connection, instruments: Iterable[int], tf: Timeframe, *, start_ms: int, end_ms: int
) -> list[tuple[int, dict[str, int | float | None]]]:
    """(instrument id, row as `read` gives it) of several instruments, by (instrument, time)."""
    values = {"instruments": literal(instruments), "lo": start_ms, "hi": end_ms}
    names = ("time", *INDICATORS)
    rows = connection.execute(_read_sql(tf), values)
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in rows]


def columns(
    connection: sa.Connection, instrument_id: int, tf: Timeframe, *, start_ms: int, end_ms: int
) -> NDArray[np.void]:
    """What `read` gives as a record array of COLUMNS, oldest first; NaN where there is no value."""
    values = {"instrument_id": instrument_id, "lo": start_ms, "hi": end_ms}
    return records(connection.execute(_columns_sql(tf), values).scalar(), COLUMNS)


def write(connection: sa.Connection, tf: Timeframe, rows: Sequence[IndicatorColumns]) -> int:
    """Stores the values, one statement for all series; NaN becomes null. Returns how many bars they cover."""
    count = sum(len(each.time_ms) for each in rows)
    if count:
        values = {name: _column(each.values[name] for each in rows) for name in INDICATORS}
        ids = np.repeat([each.instrument_id for each in rows], [len(each.time_ms) for each in rows])
        times = np.concatenate([each.time_ms for each in rows])
        values |= {"ids": literal(ids.tolist()), "times": literal(times.tolist())}
        connection.execute(_write_sql(tf), values)
    return count


def bars(connection: sa.Connection, tf: Timeframe, spans: Sequence[Span]) -> dict[int, BarColumns]:
    """The bars of each span (one span an instrument) as columns; an instrument without any is left out."""
    return {
        row[0]: BarColumns(np.frombuffer(row[1], ">i8").astype(np.int64) // 1000 + Y2000_MS, *map(_floats, row[2:]))
        for row in _each(connection, "bars", tf, spans)
    }


def amounts(connection: sa.Connection, tf: Timeframe, spans: Sequence[Span]) -> dict[int, Amounts]:
    """The exact volumes of each span's bars."""
    found = {span.instrument_id: Amounts([], [], []) for span in spans}
    for instrument, time_ms, volume, quote in _each(connection, "amounts", tf, spans):
        columns = found[instrument]
        columns.time_ms.append(time_ms)
        columns.volume.append(volume)
        columns.quote_volume.append(quote)
    return found


def sums(connection: sa.Connection, tf: Timeframe, spans: Sequence[Span]) -> dict[int, tuple[Decimal, Decimal]]:
    """(volume, quote volume) summed over each span, exact; an instrument without bars there is left out."""
    return {row[0]: (row[1], row[2]) for row in _each(connection, "sums", tf, spans)}


def extents(
    connection: sa.Connection, tf: Timeframe, instruments: Sequence[int], *, from_ms: int
) -> dict[int, tuple[int, int]]:
    """(first, last) bar time of each series that has a bar at or after `from_ms`.

    Of minutes that go back for more than a week, first is 0: to find it, a year of them would open each of its chunks.
    """
    found: dict[int, tuple[int, int]] = {}
    if tf is Timeframe.M1:
        since = from_ms - LONG_MS
        values = {"ids": literal(instruments), "lo": from_ms, "since": since, "early": since - LONG_MS}
        found = {row[0]: (0, row[1]) for row in connection.execute(sql("indicators", "long", tf), values)}
    if rest := [instrument_id for instrument_id in instruments if instrument_id not in found]:
        values = {"ids": literal(rest), "lo": from_ms}
        found |= {row[0]: (row[1], row[2]) for row in connection.execute(sql("indicators", "extents", tf), values)}
    return found


def following(connection: sa.Connection, tf: Timeframe, span: Span, *, bars: int) -> int | None:
    """The time of the bar that follows the span's first `bars` bars; None where it has no more than those."""
    values = {"id": span.instrument_id, "lo": tf.floor(span.lo_ms), "hi": span.hi_ms, "bars": bars}
    time_ms: int | None = connection.execute(sql("indicators", "following", tf), values).scalar()
    return time_ms


def lock(connection: sa.Connection, shard: int) -> bool:
    """Takes the shard until the transaction's end; False: another process is at it."""
    return bool(connection.execute(sql("indicators", "lock"), {"shard": shard}).scalar_one())


def marks(connection: sa.Connection, *, shard: int, shards: int, limit: int) -> list[Mark]:
    """The oldest marks of the indicators stage, at most `limit`."""
    values = {"shard": shard, "shards": shards, "limit": limit}
    return [Mark(*row) for row in connection.execute(sql("indicators", "marks"), values)]


def settle(connection: sa.Connection, *, done: Iterable[Mark], rest: Sequence[Span], publish: Sequence[Span]) -> None:
    """Deletes the marks that are done, and marks what is left of them and what has to be published."""
    connection.execute(sql("indicators", "settle"), {"marks": literal(mark.id for mark in done)})
    outbox.mark(connection, "indicators", rest)
    outbox.mark(connection, "publish", publish)


@cache
def _read_sql(tf: Timeframe) -> sa.TextClause:
    return timed(
        f"SELECT instrument_id, (extract(epoch FROM time) * 1000)::bigint, {', '.join(INDICATORS)}"
        f' FROM "indicators_{tf.value}" WHERE instrument_id = ANY(CAST(:instruments AS int[]))'
        " AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz) ORDER BY instrument_id, time"
    )


@cache
def _columns_sql(tf: Timeframe) -> sa.TextClause:
    values = " || ".join(f"float8send(coalesce({name}, 'NaN'))" for name in INDICATORS)
    return timed(
        f"SELECT string_agg(timestamptz_send(time) || {values}, ''::bytea)"
        f' FROM "indicators_{tf.value}" WHERE instrument_id = :instrument_id'
        " AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)"
    )


@cache
def _write_sql(tf: Timeframe) -> sa.TextClause:
    """The upsert; its lists of columns come from INDICATORS, the one place that names them."""
    names = ", ".join(INDICATORS)
    return sa.text(
        f'INSERT INTO "indicators_{tf.value}" (instrument_id, time, {names})'
        f" SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', {names}"
        " FROM unnest(CAST(:ids AS int[]), CAST(:times AS bigint[]), "
        + ", ".join(f"CAST(:{name} AS float8[])" for name in INDICATORS)
        + f") AS u (i, t, {names}) ORDER BY i, t ON CONFLICT (instrument_id, time) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in INDICATORS)
    )


def _each(connection: sa.Connection, block: str, tf: Timeframe, spans: Sequence[Span]) -> Iterator[Sequence[Any]]:
    for group in near(spans):
        yield from connection.execute(sql("indicators", block, tf), _spans(group))


def _spans(spans: Sequence[Span]) -> dict[str, Any]:
    return {
        "ids": literal(span.instrument_id for span in spans),
        "los": literal(span.lo_ms for span in spans),
        "his": literal(span.hi_ms for span in spans),
        "lo": min(span.lo_ms for span in spans),
        "hi": max(span.hi_ms for span in spans),
    }


def _column(parts: Iterable[NDArray[np.float64]]) -> str:
    values: list[float] = np.concatenate(list(parts)).tolist()
    return "{" + ",".join(map(repr, values)).replace("nan", "NULL") + "}"


def _floats(column: memoryview) -> NDArray[np.float64]:
    return np.frombuffer(column, ">f8").astype(np.float64)
