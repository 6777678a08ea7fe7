"""Calendars: the table of sessions holds what the watchlist's calendars say, from years back to a year ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from loguru import logger

from app.domain.instruments import Instrument
from app.domain.sessions import ALWAYS, Session
from app.domain.timeframes import DAY_MS
from app.errors import BadInput
from app.services.ports import Clock

BACK_MS, AHEAD_MS = 3 * 365 * DAY_MS, 400 * DAY_MS
SLACK_MS = 30 * DAY_MS  # so much less is no reason to ask the library again
AGAIN_S = 3600.0  # a calendar that is recorded no further is not asked again for so long


class Stored(Protocol):
    """app.storage.sessions."""

    def put(self, connection: sa.Connection, calendar: str, found: Sequence[Session], /) -> int: ...


class Kept(Protocol):
    """What app.storage.settled adds to it."""

    def span(self, connection: sa.Connection, calendar: str, /) -> tuple[int, int] | None: ...
    def drop_others(
        self, connection: sa.Connection, calendar: str, dates: Sequence[int], /, *, lo_ms: int, hi_ms: int
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Calendars:
    """Fills the table of sessions; `find` asks the library, `watchlist` gives the instruments."""

    engine: sa.Engine
    sessions: Stored
    kept: Kept
    watchlist: Callable[[sa.Connection], list[Instrument]]
    find: Callable[[str, int, int], list[Session]]
    clock: Clock
    asked: dict[str, float] = field(default_factory=dict)

    def run(self) -> int:
        """Stores what is missing or has changed; returns how many sessions. Once a process every calendar is asked."""
        today_ms = self.clock.now_us() // 1000 // DAY_MS * DAY_MS
        lo_ms, hi_ms = today_ms - BACK_MS, today_ms + AHEAD_MS
        with self.engine.begin() as connection:
            names = {item.calendar for item in self.watchlist(connection)} - {ALWAYS}
            due = [name for name in sorted(names) if self._due(connection, name, lo_ms, hi_ms)]
        return sum(self._fill(name, lo_ms, hi_ms) for name in due)

    def _due(self, connection: sa.Connection, name: str, lo_ms: int, hi_ms: int) -> bool:
        if time.monotonic() - self.asked.get(name, -AGAIN_S) < AGAIN_S and self.kept.span(connection, name):
            return False
        held = self.kept.span(connection, name)
        if name not in self.asked or held is None:
            return True
        return held[0] > lo_ms + SLACK_MS or held[1] < hi_ms - SLACK_MS

    def _fill(self, name: str, lo_ms: int, hi_ms: int) -> int:
        self.asked[name] = time.monotonic()
        try:
            found = self.find(name, lo_ms, hi_ms)
        except BadInput as error:
            logger.error("no sessions of {}: {}", name, error)
            return 0
        if not found:
            return 0
        with self.engine.begin() as connection:
            changed = self.sessions.put(connection, name, found)
            # A day that has become a holiday since: within what the library knows it is not there any more.
            dates = [session.date_ms for session in found]
            changed += self.kept.drop_others(connection, name, dates, lo_ms=lo_ms, hi_ms=dates[-1])
        if changed:
            logger.info("{} sessions of {} stored", changed, name)
        return changed
