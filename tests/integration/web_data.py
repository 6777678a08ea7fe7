"""Bars and indicators written straight into the tables, as the workers would leave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from app.domain.bars import Bar, Origin, State
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.updates import bar_json, order_json
from app.storage.tables import CANDLES, INDICATOR_TABLES

START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bar(
    instrument_id: int,
    time_ms: int,
    *,
    price: float = 100.0,
    minutes: int = 1,
    state: State = State.CLOSED,
    **fields: Any,
) -> Bar:
    """A bar with one trade in its first and one in its last second; ids follow the time."""
    last_ms = time_ms + minutes * MINUTE_MS - 1000
    values: dict[str, Any] = {
        "open": price,
        "high": price + 2,
        "low": price - 1,
        "close": price + 1,
        "volume": Decimal("1.5") * minutes,
        "quote_volume": Decimal(150) * minutes,
        "taker_buy_volume": Decimal(1) * minutes,
        "trade_count": 2 * minutes,
        "open_time": time_ms * 1000,
        "open_seq": time_ms // 1000,
        "close_time": last_ms * 1000,
        "close_seq": last_ms // 1000,
        "origin": Origin.TRADES if minutes == 1 else Origin.ROLLUP,
    }
    return Bar(instrument_id=instrument_id, time_ms=time_ms, state=state, **{**values, **fields})


def store(engine: sa.Engine, bars: Iterable[Bar], *, tf: Timeframe = Timeframe.M1) -> None:
    """Insert or replace these bars as they are."""
    table = CANDLES[tf]
    with engine.begin() as conn:
        for each in bars:
            row = {name: getattr(each, name) for name in Bar.__slots__ if name != "time_ms"}
            row |= {"time": utc(each.time_ms), "state": int(each.state), "origin": int(each.origin)}
            conn.execute(
                sa.delete(table).where(table.c.instrument_id == each.instrument_id, table.c.time == row["time"])
            )
            conn.execute(sa.insert(table).values(row))


def store_indicators(
    engine: sa.Engine,
    instrument_id: int,
    rows: Mapping[int, Mapping[str, float | None]],
    *,
    tf: Timeframe = Timeframe.M1,
) -> None:
    """Insert indicator rows by bar time (ms)."""
    with engine.begin() as conn:
        for time_ms, values in rows.items():
            conn.execute(
                sa.insert(INDICATOR_TABLES[tf]).values(instrument_id=instrument_id, time=utc(time_ms), **values)
            )


def wipe(engine: sa.Engine) -> None:
    """Delete all bars and indicators."""
    with engine.begin() as conn:
        for table in (*CANDLES.values(), *INDICATOR_TABLES.values()):
            conn.execute(sa.delete(table))


def empty(engine: sa.Engine) -> None:
    """Takes away all bars, and what pages tell beside them: backfills, holes, differences, feeds, sessions."""
    wipe(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("TRUNCATE backfills, holes, differences, feeds, sessions RESTART IDENTITY CASCADE"))


def update(symbol: str, instrument_id: int, series: Mapping[str, Any], *, reload: bool = False) -> dict[str, Any]:
    """A `chart_updates` message; `series` maps a timeframe to bars, or to (bars, indicator rows)."""
    body = {}
    for tf, value in series.items():
        bars, rows = value if isinstance(value, tuple) else (value, [])
        body[tf] = {"bars": [{**bar_json(each), "order": order_json(each)} for each in bars], "indicators": rows}
    return {"exchange": "binance", "symbol": symbol, "id": instrument_id, "series": body, "reload": reload}


def utc(time_ms: int) -> datetime:
    """The moment as the database driver wants it."""
    return EPOCH + timedelta(milliseconds=time_ms)
