"""What polling keeps: up to where an instrument is complete, what was not polled, and who polls at the moment.

Beside it the sessions' upkeep and the asking for daily bars, which only the poller's tasks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from app.storage import outbox
from app.storage.arrays import literal
from app.storage.sql import sql


def until(connection: sa.Connection, instruments: Iterable[int]) -> dict[int, int]:
    """Instrument id → time (ms) up to which its bars are all there are; one never polled is left out."""
    rows = connection.execute(sql("settled", "until"), {"instruments": literal(instruments)})
    return {row[0]: row[1] for row in rows}


def forward(connection: sa.Connection, instrument_id: int, until_ms: int) -> None:
    """Moves that time up to `until_ms`, never back."""
    connection.execute(sql("settled", "forward"), {"instrument_id": instrument_id, "until": until_ms})


def back(connection: sa.Connection, instrument_id: int, until_ms: int) -> None:
    """Moves that time back to `until_ms`: what a clock that was ahead wrote there was not true."""
    connection.execute(sql("settled", "back"), {"instrument_id": instrument_id, "until": until_ms})


def extend(
    connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str, *, error: str | None = None
) -> int:
    """Records the holes (instrument id, lo, hi) of a cause; an open one they touch grows instead.

    Returns how many are new or changed.
    """
    if not stretches:
        return 0
    columns = dict(zip(("instruments", "lows", "highs"), map(literal, zip(*stretches, strict=True)), strict=True))
    return int(connection.execute(sql("settled", "extend"), {**columns, "cause": cause, "error": error}).scalar_one())


def filled(connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int, cause: str) -> None:
    """Closes the open holes of the cause in [lo, hi), or what of them lies there."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms, "cause": cause}
    connection.execute(sql("settled", "filled"), values)


@contextmanager
def alone(engine: sa.Engine, key: int) -> Iterator[bool]:
    """Holds an advisory lock outside any transaction, for work that waits on others; False where somebody has it.

    It ends with the connection, so that a killed process leaves nothing behind.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        held = bool(connection.execute(sql("settled", "lock"), {"key": key}).scalar())
        try:
            yield held
        finally:
            if held and not connection.invalidated:
                connection.execute(sql("settled", "unlock"), {"key": key})


def span(connection: sa.Connection, calendar: str) -> tuple[int, int] | None:
    """The first and last date (ms) of a calendar's stored sessions, None without any."""
    row = connection.execute(sql("settled", "sessions_span"), {"calendar": calendar}).one()
    return None if row[0] is None else (row[0], row[1])


def drop_others(connection: sa.Connection, calendar: str, dates: Sequence[int], *, lo_ms: int, hi_ms: int) -> int:
    """Deletes the sessions dated in [lo, hi) that are none of `dates`; returns how many."""
    values = {"calendar": calendar, "dates": literal(dates), "lo": lo_ms, "hi": hi_ms}
    return connection.execute(sql("settled", "drop_sessions"), values).rowcount


def ask_daily(connection: sa.Connection, exchange: str, *, ended_ms: int, days: int, kept_ms: int = 0) -> list[int]:
    """Asks for daily bars that stocks of the exchange lack, of sessions over by `ended_ms`; returns the backfills.

    Nothing is asked of what lies before `kept_ms`, or `days` before its newest session.
    """
    values = {"exchange": exchange, "ended": ended_ms, "days": days, "kept": kept_ms}
    wanted = connection.execute(sql("settled", "daily_wanted"), values).all()
    if not wanted:
        return []
    # A source goes on changing its newest day for hours: it is taken once more with the day after it.
    outbox.doubt_days(connection, {row[0]: [row[1]] for row in wanted if row[3]})
    columns = dict(zip(("instruments", "lows", "highs"), map(literal, zip(*wanted, strict=True)), strict=False))
    return list(connection.execute(sql("settled", "ask_daily"), columns).scalars())
