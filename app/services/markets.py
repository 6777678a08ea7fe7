"""Market hours: whether a calendar's market is open by the exchange's clock, until when, or from when on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from app.domain.instruments import RULES, Exchange
from app.domain.sessions import ALWAYS, Session, Window, current, following, windows
from app.domain.timeframes import DAY_MS

BACK_MS, AHEAD_MS = 2 * DAY_MS, 21 * DAY_MS  # what is read at a time: longer than any holiday
KEEP_S, KEEP_NONE_S = 60.0, 3.0  # wall time sessions are kept, and the lack of any

type Market = tuple[str, str]
"""An exchange and a calendar: of one calendar, a source may have the extended hours, and another not."""


class SessionStore(Protocol):
    """Stored sessions that touch [lo, hi) ms, oldest first."""

    def read(self, connection: sa.Connection, calendar: str, lo_ms: int, hi_ms: int, /) -> list[Session]: ...


@dataclass(frozen=True, slots=True)
class MarketState:
    """Whether a calendar's market is open, by the hours in which its bars are expected; times in ms.

    `until_ms` is None where it never closes; unknown means that no session of today or later is stored.
    """

    calendar: str
    state: Literal["open", "closed", "unknown"]
    until_ms: int | None = None
    opens_ms: int | None = None

    def json(self) -> dict[str, Any]:
        """The state as REST and WebSocket tell it."""
        return {"calendar": self.calendar, "state": self.state, "until": self.until_ms, "opens": self.opens_ms}

    def words(self) -> str:
        """The state in words, in UTC."""
        if self.state == "unknown":
            return "hours not known yet"
        if self.state == "closed":
            return f"closed, opens {_utc(self.opens_ms, '%a %d %b %H:%M')}"
        return "always open" if self.until_ms is None else f"open until {_utc(self.until_ms, '%H:%M')}"


class Markets:
    """Tells market states; the sessions are read once a minute."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        sessions: SessionStore,
        *,
        now_ms: Callable[[], int],
        extended: bool = False,
    ) -> None:
        self._connect, self._sessions, self._now_ms, self._extended = connect, sessions, now_ms, extended
        self._read: dict[Market, tuple[float, int, list[Window]]] = {}

    def states(self, markets: Iterable[Market]) -> dict[Market, MarketState]:
        """Each market's state; raises what the database driver raises when it is away."""
        now_ms = self._now_ms()
        return {market: state_at(now_ms, market[1], self._windows(market, now_ms)) for market in markets}

    def _windows(self, market: Market, now_ms: int) -> list[Window]:
        exchange, calendar = market
        if calendar == ALWAYS:
            return []
        at, read_ms, found = self._read.get(market, (0.0, 0, []))
        fresh = time.monotonic() - at < (KEEP_S if found else KEEP_NONE_S)
        if not (fresh and 0 <= now_ms - read_ms < DAY_MS):  # a simulated clock may run days in a minute
            with self._connect() as conn:
                stored = self._sessions.read(conn, calendar, now_ms - BACK_MS, now_ms + AHEAD_MS)
            extended = self._extended and RULES[Exchange(exchange)].extended_hours
            found = windows(calendar, stored, extended=extended)
            self._read[market] = (time.monotonic(), now_ms, found)
        return found


def state_at(now_ms: int, calendar: str, expected: list[Window]) -> MarketState:
    """The state at a time, from the windows in which bars are expected."""
    if calendar == ALWAYS:
        return MarketState(calendar, "open")
    if (window := current(now_ms, expected)) is not None:
        return MarketState(calendar, "open", until_ms=window.hi_ms)
    if (window := following(now_ms, expected)) is not None:
        return MarketState(calendar, "closed", opens_ms=window.lo_ms)
    return MarketState(calendar, "unknown")


def _utc(time_ms: int | None, form: str) -> str:
    return f"{datetime.fromtimestamp((time_ms or 0) / 1000, UTC):{form}} UTC"
