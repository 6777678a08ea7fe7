"""Bars of many days, and how they are looked at, for tests of retention and of migrations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import DAY_MS, Timeframe
from app.storage.times import utc

FILL = """
INSERT INTO "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin, revision)
SELECT :i, g, n, n + 2, n - 1, n + 1, n, 2 * n, 0.5, 3, us, n, us + 1, n, :state, :origin, n % 2
FROM generate_series(CAST(:lo AS timestamptz), CAST(:hi AS timestamptz) - interval '1 second', '{minutes} min') g,
    LATERAL (SELECT (extract(epoch FROM g) * 1000000)::bigint AS us) t,
    LATERAL (SELECT t.us / 60000000 % 1000 + 1 AS n) s
ON CONFLICT DO NOTHING
"""
INDICATE = """
INSERT INTO "indicators_{tf}" (instrument_id, time, rsi_14, vwap)
SELECT instrument_id, time, 50, close FROM "candles_{tf}" WHERE instrument_id = :i ON CONFLICT DO NOTHING
"""


def today_ms(engine: sa.Engine) -> int:
    """The midnight (UTC) before the database's present time."""
    with engine.begin() as connection:
        return int(connection.scalar(sa.text("SELECT extract(epoch FROM now()) * 1000")) or 0) // DAY_MS * DAY_MS


def fill(
    engine: sa.Engine, instrument: int, tf: Timeframe, lo_ms: int, hi_ms: int, *, state: int = 2, origin: int = 0
) -> None:
    """Bars and indicators of [lo, hi) whose values follow from their time."""
    values = {"i": instrument, "lo": utc(lo_ms), "hi": utc(hi_ms), "state": state, "origin": origin}
    with engine.begin() as connection:
        for statement in (FILL, INDICATE):
            text = statement.replace("{tf}", tf.value).replace("{minutes}", str(tf.minutes))
            connection.execute(sa.text(text), values)


def extent(engine: sa.Engine, instrument: int, tf: Timeframe, kind: str = "candles") -> tuple[int, int, int]:
    """(rows, ms of the first, ms of the last) of a series."""
    query = f'SELECT count(*), min(time), max(time) FROM "{kind}_{tf.value}" WHERE instrument_id = :i'
    with engine.begin() as connection:
        row = connection.execute(sa.text(query), {"i": instrument}).one()
    return row[0], round(row[1].timestamp() * 1000), round(row[2].timestamp() * 1000)


def retain(engine: sa.Engine, days: dict[str, int | None]) -> None:
    """Sets the retention of every timeframe anew; those not named are kept for ever."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM retention"))
        for tf, keep in {**dict.fromkeys(tf.value for tf in Timeframe), **days}.items():
            connection.execute(sa.text("INSERT INTO retention VALUES (:tf, :keep)"), {"tf": tf, "keep": keep})


def rows(connection: sa.Connection, table: str) -> list[Any]:
    """Every row of a table, in a fixed order."""
    columns = f"instrument_id, time, {', '.join(INDICATORS)}" if table.startswith("indicators_") else "*"
    found = connection.execute(sa.text(f'SELECT {columns} FROM "{table}"')).all()
    return sorted(map(tuple, found), key=repr)
