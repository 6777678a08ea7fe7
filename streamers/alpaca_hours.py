"""When the markets of the followed instruments are open, as the database says; read again each minute."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from loguru import logger

from app.domain.sessions import Session, windows
from app.domain.timeframes import DAY_MS
from app.errors import PlatformError
from streamers.pace import Pace

REFRESH_S = 60.0
RETRY_S = 2.0  # as long as no sessions are known
BACK_MS, AHEAD_MS = 7 * DAY_MS, 21 * DAY_MS

type Find = Callable[[str, int, int], Sequence[Session]]  # calendar, [lo, hi) ms; may block, raises Unavailable


class Place(Enum):
    """Where a moment lies."""

    SESSION = 1
    EXTENDED = 2  # before or after the session, where extended hours are kept
    OUTSIDE = 3


class _Schedule:
    """A calendar from `lo_ms` to `hi_ms`: `places[i]` holds from `edges[i]` on."""

    def __init__(self, calendar: str, sessions: Sequence[Session], lo_ms: int, hi_ms: int, *, extended: bool) -> None:
        self.edges, self.places = [lo_ms], [Place.OUTSIDE]
        wide = windows(calendar, sessions, extended=extended)
        self.openings = [window.lo_ms for window in wide]
        for outer, inner in zip(wide, windows(calendar, sessions), strict=True):
            for edge, place in (
                (outer.lo_ms, Place.EXTENDED), (inner.lo_ms, Place.SESSION),
                (inner.hi_ms, Place.EXTENDED), (outer.hi_ms, Place.OUTSIDE),
            ):  # fmt: skip
                self.edges.append(max(edge, self.edges[-1]))
                self.places.append(place)
        self.hi_ms = max(hi_ms, self.edges[-1])


class Hours:
    """Knows sessions once they were read; until then, and beyond what was read, every moment is in one."""

    def __init__(self, find: Find, pace: Pace, *, extended: bool) -> None:
        self._find, self._pace, self._extended = find, pace, extended
        self._calendars: frozenset[str] = frozenset()
        self._schedules: dict[str, _Schedule] = {}
        self._changed = asyncio.Event()
        self._followed = False

    def follow(self, calendars: Iterable[str]) -> None:
        """Sets the calendars to know."""
        self._followed = True
        if (wanted := frozenset(calendars)) != self._calendars:
            self._calendars = wanted
            self._changed.set()

    def place(self, calendar: str, time_ms: int) -> Place:
        """Where a moment lies in a calendar's days."""
        schedule = self._schedules.get(calendar)
        if schedule is None or not schedule.edges[0] <= time_ms < schedule.hi_ms:
            return Place.SESSION
        return schedule.places[bisect_right(schedule.edges, time_ms) - 1]

    def opened(self, calendar: str, time_ms: int) -> int | None:
        """When the day began that a moment lies in, or comes after by no more than a day; None where none is known."""
        schedule = self._schedules.get(calendar)
        if schedule is None:
            return None
        openings = schedule.openings
        place = bisect_right(openings, time_ms) - 1
        return openings[place] if place >= 0 and time_ms - openings[place] < DAY_MS else None

    def open(self) -> bool:
        """Whether any of the calendars is open now; with the clock away it may be."""
        now_us = self._pace.settled_us()
        if now_us is None or not self._calendars:
            return True
        return any(self.place(name, now_us // 1000) is not Place.OUTSIDE for name in self._calendars)

    async def ready(self, seconds: float) -> None:
        """Returns once the followed calendars are known, at the latest after so long: prints are judged by them."""
        end = asyncio.get_running_loop().time() + seconds
        while not (self._followed and self._calendars <= self._schedules.keys()):
            if asyncio.get_running_loop().time() > end:
                logger.warning("no sessions are known yet: prints of closed hours are kept until they are")
                return
            await asyncio.sleep(0.1)

    async def run(self) -> None:
        """Reads until it is cancelled; with the database away what was read stays in force."""
        away = False
        while True:
            self._changed.clear()
            try:
                await self._read()
                away = False
            except (PlatformError, OSError) as error:
                if not away:
                    logger.warning("sessions cannot be read, keeping what is known: {}", error)
                away = True
            known = self._calendars <= self._schedules.keys()
            try:
                await asyncio.wait_for(self._changed.wait(), REFRESH_S if known else RETRY_S)
            except TimeoutError:
                continue

    async def _read(self) -> None:
        now_ms = await self._pace.now_us() // 1000
        lo_ms, hi_ms = now_ms - BACK_MS, now_ms + AHEAD_MS
        for name in self._calendars:
            if found := await asyncio.to_thread(self._find, name, lo_ms, hi_ms):
                self._schedules[name] = _Schedule(name, found, lo_ms, hi_ms, extended=self._extended)
