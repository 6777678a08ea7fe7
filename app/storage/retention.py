"""How long bars are kept: the table `retention`, and what plain PostgreSQL deletes by it.

On TimescaleDB the job `retain_bars` (sql/timescale.sql) does the same, made of the same statements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from app.domain.keeping import Kept
from app.domain.timeframes import Timeframe
from app.storage import holes, timescale
from app.storage.sql import sql
from app.storage.times import utc


def cutoffs(connection: sa.Connection, *, hold: bool = False) -> dict[Timeframe, int]:
    """Timeframe → time (ms) before which nothing is kept; one kept for ever is left out.

    `hold`: they cannot move until the transaction ends.
    """
    statement = sql("retention", "cutoffs")
    rows = connection.execute(sa.text(f"{statement.text} FOR SHARE") if hold else statement)
    return {Timeframe(row[0]): round(row[1].timestamp() * 1000) for row in rows}


def settings(connection: sa.Connection) -> dict[Timeframe, Kept]:
    """What the table says of each timeframe."""
    return {Timeframe(row[0]): Kept(row[1], row[2]) for row in connection.execute(sql("retention", "settings"))}


def put(connection: sa.Connection, days: Mapping[str, int | None]) -> None:
    """Sets how many days each timeframe is kept, None for ever; what was asked to be kept beyond stays."""
    values = {"timeframes": list(days), "days": list(days.values())}
    connection.execute(sql("retention", "put"), values)


def keep_from(connection: sa.Connection, timeframes: Collection[Timeframe], since_ms: int) -> None:
    """Has everything of the timeframes kept from `since_ms` (a UTC midnight) on, of all symbols, for good."""
    values = {"timeframes": [tf.value for tf in timeframes], "since": utc(since_ms)}
    connection.execute(sql("retention", "keep_from"), values)


def let_go(connection: sa.Connection, tf: Timeframe, cutoff_ms: int) -> None:
    """Ends every claim on bars before the cutoff; they may be deleted once this is committed."""
    values = {"timeframe": tf.value, "cutoff": utc(cutoff_ms)}
    connection.execute(sql("retention", "let_go"), values)
    if tf is Timeframe.M1:
        holes.let_go(connection, cutoff_ms)


def by_job(connection: sa.Connection) -> bool:
    """Whether TimescaleDB deletes by a job of its own."""
    return timescale.converted(connection)


def oldest(connection: sa.Connection, tf: Timeframe, cutoff_ms: int) -> list[tuple[int, int]]:
    """(instrument id, ms of its first bar) of the series that have bars before the cutoff."""
    rows = connection.execute(sql("retention", "oldest", tf), {"cutoff": utc(cutoff_ms)})
    return [(row[0], row[1]) for row in rows]


def delete(connection: sa.Connection, tf: Timeframe, instrument_id: int, lo_ms: int, hi_ms: int) -> int:
    """Deletes the bars and indicators of [lo, hi); returns how many bars."""
    values = {"instrument_id": instrument_id, "lo": utc(lo_ms), "hi": utc(hi_ms)}
    return connection.execute(sql("retention", "delete", tf), values).rowcount
