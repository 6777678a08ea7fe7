"""How whole and how verified the stored series are: read by pages, API and `status`, written by nobody here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    skip: Collection[str] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Recorded holes, newest first; times in ms. With `skip` only those that waiting_holes() counts with it."""
    values = {
        "exchange": exchange, "symbol": symbol, "open": open_only, "skip": None if skip is None else list(skip),
        "before": before, "limit": limit,
    }  # fmt: skip
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


def last_trades(connection: sa.Connection, *, since_ms: int) -> list[dict[str, Any]]:
    """Of each active instrument: price and time of its newest trade, and up to when it is verified (since then); ms."""
    return [dict(row) for row in connection.execute(sql("quality", "last_trades"), {"since": since_ms}).mappings()]


def clocks(connection: sa.Connection) -> dict[str, int]:
    """Exchange → ms up to which everything that its live feed brought is stored; one that is not live is left out."""
    return {row[0]: int(row[1]) for row in connection.execute(sql("quality", "clocks"))}


def waiting_holes(connection: sa.Connection, *, late_s: float, skip: Collection[str] = ()) -> tuple[int, int]:
    """How many holes wait for repair, and how many of them for longer than so many seconds.

    Those of symbols that are not collected any more, and of the exchanges `skip`, do not count.
    """
    count, late = connection.execute(sql("quality", "waiting_holes"), {"late": late_s, "skip": list(skip)}).one()
    return int(count), int(late)
