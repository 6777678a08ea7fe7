"""Bars in the database: the merge of live trades, the exchange's word, and reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.bars import Bar, Merged, Origin, PartialBar, State
from app.domain.timeframes import Timeframe
from app.storage.arrays import literal, numbers
from app.storage.sql import sql

FIRST_MS, LAST_MS = 0, 253_402_300_800_000  # 1970 to the end of 9999: constant bounds where a caller names none


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
) -> list[tuple[int, int]]:
    """Stores the exchange's own bars as verified; returns the (instrument, time ms) that changed.

    `flats`: a bar without trades is marked flat, as on an exchange whose series has them.
    """
    if not bars:
        return []
    ordered = sorted(bars, key=lambda bar: (bar.instrument_id, bar.time_ms))
    rows = connection.execute(sql("candles", "replace", tf), {**_columns(ordered), "flats": flats})
    return [(row[0], row[1]) for row in rows]


def verify(connection: sa.Connection, keys: Sequence[tuple[int, int]]) -> None:
    """Calls these closed 1m bars (instrument, time ms) verified: the exchange's own agreed."""
    if keys:
        ordered = sorted(keys)
        times = [key[1] for key in ordered]
        values = {"instrument_id": literal(key[0] for key in ordered), "time": literal(times)}
        connection.execute(sql("candles", "verify"), {**values, "lo": min(times), "hi": max(times) + 1})


def lock(connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int) -> None:
    """Locks the instrument's 1m bars of [lo, hi) in the order in which everybody does."""
    connection.execute(sql("candles", "lock"), {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms})


def remove(connection: sa.Connection, keys: Sequence[tuple[int, int]]) -> None:
    """Deletes 1m bars of minutes in which nothing counts any more, and their indicators."""
    if keys:
        ordered = sorted(keys)
        times = [key[1] for key in ordered]
        values = {"instrument_id": literal(key[0] for key in ordered), "time": literal(times)}
        connection.execute(sql("candles", "remove"), {**values, "lo": min(times), "hi": max(times) + 1})


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
    values = {
        "instrument_id": instrument_id,
        "lo": FIRST_MS if start_ms is None else start_ms,
        "hi": LAST_MS if end_ms is None else end_ms,
        "limit": limit,
    }
    return [as_bar(row) for row in connection.execute(sql("candles", "read", tf), values)][::-1]


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
