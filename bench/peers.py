"""What the platform's writes are held against: execute_values as one would write it, and a bare COPY as the limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from psycopg2.extras import execute_values

from app.domain.bar_columns import BarColumns

NAMES = (
    "instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count, open_time, "
    "open_seq, close_time, close_seq, state, origin"
)
UPSERT = f"""INSERT INTO candles_1m ({NAMES}) VALUES %s ON CONFLICT (instrument_id, time) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
    quote_volume = excluded.quote_volume, taker_buy_volume = excluded.taker_buy_volume,
    trade_count = excluded.trade_count, state = 2"""
UNINDEXED = "CREATE TABLE bare (LIKE candles_1m INCLUDING DEFAULTS)"

type Row = tuple[object, ...]


def tuples(bars: BarColumns) -> list[Row]:
    """The bars as rows for execute_values."""
    times = (datetime.fromtimestamp(time_ms / 1000, UTC) for time_ms in bars.time_ms)
    prices = (map(float, column) for column in (bars.open, bars.high, bars.low, bars.close))
    sums = (map(Decimal, column) for column in (bars.volume, bars.quote_volume, bars.taker_buy_volume))
    trades = (bars.trade_count, bars.open_time, bars.open_seq, bars.close_time, bars.close_seq)
    count = len(bars)
    return list(
        zip([bars.instrument_id] * count, times, *prices, *sums, *trades, [2] * count, [1] * count, strict=True)
    )


def by_execute_values(engine: sa.Engine, rows: Sequence[Row], *, page_size: int = 1000) -> None:
    """An idempotent insert in one transaction."""
    with engine.begin() as connection, connection.connection.cursor() as cursor:
        execute_values(cursor, UPSERT, rows, page_size=page_size)


def copy_text(rows: Sequence[Row]) -> bytes:
    """The rows as COPY reads them."""
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


def by_bare_copy(engine: sa.Engine, body: bytes) -> None:
    """The limit: one COPY of ready text into a table without an index (`UNINDEXED`)."""
    with engine.begin() as connection, connection.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY bare ({NAMES}) FROM STDIN", io.BytesIO(body), 1 << 16)
