"""How whole and how verified the stored series are: read by pages, API and `status`, written by nobody here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from app.domain.gaps import Gap
from app.domain.history import RECHECKS
from app.domain.timeframes import Timeframe
from app.storage.arrays import literal
from app.storage.sql import sql


def gaps(
    connection: sa.Connection,
    instruments: Iterable[int],
    *,
    lo_ms: int | None = None,
    hi_ms: int | None = None,
    limit: int = 1000,
) -> list[Gap]:
    """The newest `limit` gaps of these instruments that touch [lo, hi), oldest first."""
    values = {
        "instruments": literal(instruments), "rechecks": list(RECHECKS), "lo": lo_ms, "hi": hi_ms, "limit": limit,
    }  # fmt: skip
    return [Gap(*row) for row in connection.execute(sql("quality", "gaps"), values)][::-1]


def holes(
    connection: sa.Connection,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    open_only: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Recorded holes, newest first; times in ms."""
    values = {"exchange": exchange, "symbol": symbol, "open": open_only, "before": before, "limit": limit}
    return [dict(row) for row in connection.execute(sql("quality", "holes"), values).mappings()]


def differences(
    connection: sa.Connection,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Where bars of ours and the exchange's own disagreed, newest first; times in ms."""
    values = {"exchange": exchange, "symbol": symbol, "before": before, "limit": limit}
    return [dict(row) for row in connection.execute(sql("quality", "differences"), values).mappings()]


def verification(connection: sa.Connection, since_ms: int) -> list[dict[str, Any]]:
    """Per exchange: completed and verified 1m bars of the hours since then, and the differences found in them."""
    rows = connection.execute(sql("quality", "verification"), {"since": Timeframe.H1.floor(since_ms)}).mappings()
    return [dict(row) for row in rows]


def backfills(connection: sa.Connection, *, limit: int = 20) -> list[dict[str, Any]]:
    """The backfills that wait or run, those that run first; times in ms."""
    return [dict(row) for row in connection.execute(sql("quality", "backfills"), {"limit": limit}).mappings()]
