"""Bars in the database: the merge of live trades, the exchange's word, and reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from app.domain.bars import Bar, Merged, Origin, PartialBar, State
from app.domain.timeframes import DAY_MS, Timeframe
from app.storage.arrays import literal, numbers, records
from app.storage.keys import Key, by_day, locked
from app.storage.sql import sql

FIRST_MS, LAST_MS = 0, 253_402_300_800_000  # 1970 to the end of 9999: constant bounds where a caller names none
NEWEST = "newest_ms"  # what a connection keeps: the newest bar it has read
COLUMNS = np.dtype(
    [
        ("time", ">i8"),
        *((name, ">f8") for name in ("open", "high", "low", "close", "volume", "quote_volume")),
        ("trade_count", ">i8"),
        *((name, ">i4") for name in ("state", "revision", "origin")),
    ]
)
"""The bytes of a bar as `columns` reads it: what the update messages of a bar show (app.domain.updates.bar_json)."""


def merge(connection: sa.Connection, parts: Sequence[PartialBar]) -> Merged:
    """Adds the minutes of a batch to the stored 1m bars (law 2); `parts` are sorted by (instrument, time)."""
    if not parts:
        return Merged([], [])
    columns = map(numbers, zip(*parts, strict=True))
    rows = connection.execute(sql("candles", "merge"), dict(zip(_KEYS, columns, strict=True)))
    bars = [as_bar(row) for row in rows]
    if len(bars) == len(parts):
        return Merged(bars, [])
    changed = {(bar.instrument_id, bar.time_ms) for bar in bars}
    return Merged(bars, [key for part in parts if (key := (part.instrument_id, part.time_ms)) not in changed])


def replace(
    connection: sa.Connection, bars: Sequence[Bar], *, tf: Timeframe = Timeframe.M1, flats: bool = True
) -> list[Key]:
    """Stores the exchange's own bars as verified; returns the (instrument, time ms) that changed.

    `flats`: a bar without trades is marked flat, as on an exchange whose series has them.
    """
    if not bars:
        return []
    ordered = sorted(bars, key=lambda bar: (bar.instrument_id, bar.time_ms))
    rows = connection.execute(sql("candles", "replace", tf), {**_columns(ordered), "flats": flats})
    return [(row[0], row[1]) for row in rows]


def verify(connection: sa.Connection, keys: Iterable[Key]) -> None:
    """Calls these closed 1m bars (instrument, time ms) verified: the exchange's own agreed."""
    for values in by_day(keys):
        connection.execute(sql("candles", "verify"), values)


def lock(connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int) -> None:
    """Locks the instrument's 1m bars of [lo, hi) in the order in which everybody does.

    Where some are compressed, those that a trade may change: all that are not verified.
    """
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms}
    if locked(connection, sql("candles", "lock"), values) is None:
        connection.execute(sql("candles", "lock_packed"), values)


def hold(connection: sa.Connection, keys: Iterable[Key]) -> list[Bar]:
    """Locks these 1m bars, compressed ones too, and returns them."""
    return [as_bar(row) for values in by_day(keys) for row in connection.execute(sql("candles", "hold"), values)]


def remove(connection: sa.Connection, keys: Iterable[Key]) -> None:
    """Deletes 1m bars of minutes in which nothing counts any more, and their indicators."""
    for values in by_day(keys):
        connection.execute(sql("candles", "remove"), values)


def read(
    connection: sa.Connection,
    instrument_id: int,
    tf: Timeframe,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    limit: int = 1000,
) -> list[Bar]:
    """The newest `limit` stored bars with start_ms <= time < end_ms, oldest first."""
    values = {"instrument_id": instrument_id, "hi": LAST_MS if end_ms is None else end_ms, "limit": limit}
    rows: Sequence[Sequence[Any]] = ()
    for lo_ms in _starts(connection, tf, start_ms=start_ms, end_ms=end_ms, limit=limit):
        rows = connection.execute(sql("candles", "read", tf), {**values, "lo": lo_ms}).all()
        if len(rows) == limit:
            break
    if rows and end_ms is None:
        _seen(connection, rows[0][1])
    return [as_bar(row) for row in rows[::-1]]


def columns(connection: sa.Connection, instrument_id: int, tf: Timeframe, *, limit: int) -> NDArray[np.void]:
    """What charts show of the newest `limit` stored bars, oldest first, as a record array of COLUMNS; time in ms."""
    values = {"instrument_id": instrument_id, "hi": LAST_MS, "limit": limit}
    found: NDArray[np.void] = np.empty(0, COLUMNS)
    for lo_ms in _starts(connection, tf, start_ms=None, end_ms=None, limit=limit):
        found = records(connection.execute(sql("candles", "columns", tf), {**values, "lo": lo_ms}).scalar(), COLUMNS)
        if len(found) == limit:
            break
    if len(found):
        _seen(connection, int(found["time"][-1]))
    return found


def _starts(
    connection: sa.Connection, tf: Timeframe, *, start_ms: int | None, end_ms: int | None, limit: int
) -> list[int]:
    """From where to look for the newest bars, one after the other until there are enough."""
    first_ms = FIRST_MS if start_ms is None else start_ms
    newest_ms = connection.info.get(NEWEST) if end_ms is None else end_ms
    if tf is not Timeframe.M1 or start_ms is not None or newest_ms is None:
        return [first_ms]
    # A year of minutes is many chunks: first where they mostly are.
    return [newest_ms - max(8 * limit * tf.ms, 4 * DAY_MS), first_ms]


def _seen(connection: sa.Connection, newest_ms: int) -> None:
    connection.info[NEWEST] = max(newest_ms, connection.info.get(NEWEST, 0))


def read_many(
    connection: sa.Connection, instruments: Iterable[int], tf: Timeframe, *, start_ms: int, end_ms: int
) -> list[Bar]:
    """All bars of several instruments with start_ms <= time < end_ms, by (instrument, time)."""
    values = {"instruments": literal(instruments), "lo": start_ms, "hi": end_ms}
    return [as_bar(row) for row in connection.execute(sql("candles", "read_many", tf), values)]


_NAMES = PartialBar._fields
_KEYS = tuple("time" if name == "time_ms" else name for name in _NAMES)
_STATES, _ORIGINS = tuple(State), tuple(Origin)


def _columns(rows: Sequence[Bar]) -> dict[str, Any]:
    return {key: numbers([getattr(row, name) for row in rows]) for key, name in zip(_KEYS, _NAMES, strict=True)}


def as_bar(row: Sequence[Any]) -> Bar:
    """The bar of a row in the order of the statements' columns."""
    return Bar(*(*row[:14], _STATES[row[14]], row[15], _ORIGINS[row[16]]))
