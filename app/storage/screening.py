"""What all instruments are compared by: the newest completed bar of each, its day, and its last minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from app.domain.bars import Bar
from app.domain.day import Day
from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import Timeframe
from app.storage.arrays import literal
from app.storage.candles import as_bar
from app.storage.sql import sql, timed

_BAR_NAMES = ("open", "high", "low", "close", "before", "volume", "quote_volume", "trade_count")
_NAMES = (*_BAR_NAMES, *INDICATORS)


def newest(
    connection: sa.Connection, instruments: Sequence[int], tf: Timeframe, *, lo_ms: int, hi_ms: int
) -> dict[int, dict[str, Any]]:
    """The newest completed bar in [lo, hi) of each instrument that has one: "time" in ms, bar fields, indicators.

    The values of the bar before are given while the newest one's indicators are still being computed.
    """
    values = {"ids": literal(instruments), "lo": lo_ms, "hi": hi_ms}
    return {row[0]: _figures(row) for row in connection.execute(_newest_sql(tf), values)}


def days(
    connection: sa.Connection, instruments: Sequence[int], *, lo_ms: int, since_ms: int, hi_ms: int
) -> dict[int, Day]:
    """The quarter hours of [lo, hi) in one row an instrument; those before `since_ms` only give the reference."""
    values = {"ids": literal(instruments), "lo": lo_ms, "since": since_ms, "hi": hi_ms}
    return {row[0]: Day(*row[1:]) for row in connection.execute(sql("screening", "days"), values)}


def minutes(connection: sa.Connection, since: Mapping[int, int], *, lo_ms: int, hi_ms: int) -> list[Bar]:
    """The 1m bars in [lo, hi) of each instrument from its own time (ms) on, by (instrument, time)."""
    values = {"ids": literal(since), "los": literal(since.values()), "lo": lo_ms, "hi": hi_ms}
    return [as_bar(row) for row in connection.execute(sql("screening", "minutes"), values)]


def last_minutes(connection: sa.Connection, instruments: Sequence[int], *, lo_ms: int, hi_ms: int) -> dict[int, Bar]:
    """The newest 1m bar in [lo, hi) of each instrument that has one."""
    values = {"ids": literal(instruments), "lo": lo_ms, "hi": hi_ms}
    bars = (as_bar(row) for row in connection.execute(sql("screening", "last_minutes"), values))
    return {bar.instrument_id: bar for bar in bars}


def _figures(row: Sequence[Any]) -> dict[str, Any]:
    found = {"time": row[1], **dict(zip(_NAMES, row[2:], strict=True))}
    before = found.pop("before")
    found["change_1"] = round((found["close"] / before - 1) * 100, 4) if before else None
    return found


@cache
def _newest_sql(tf: Timeframe) -> sa.TextClause:
    """The statement with the indicators' columns, which INDICATORS alone names."""
    return timed(sql("screening", "newest", tf).text.replace("{indicators}", ", ".join(f"i.{n}" for n in INDICATORS)))
