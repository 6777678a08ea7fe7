"""Trading sessions: when bars are expected. What the calendars say is stored as rows; the laws here are pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe

ALWAYS = "24/7"

# Minutes before the opening and after the close in which the source has bars: the auctions of Borsa Istanbul.
MARGINS: dict[str, tuple[int, int]] = {"XIST": (20, 10)}
# Extended hours of the United States: 04:00 to 20:00 New York time.
EXTENDED: dict[str, tuple[int, int]] = {"XNYS": (330, 240)}
# The hours [from, to) of a UTC date that may hold its own session, where minutes of another date's lie beside it: New
# York's extended evening ends at 01:00 UTC in winter, Sydney and Wellington open before midnight UTC. Cut hours away
# from all trading, so that daylight saving moves nothing across, and where 4h bars begin, of which 1d is made.
OWN_HOURS: dict[str, tuple[int, int]] = {"XNYS": (4, 24), "XASX": (0, 12), "XNZE": (0, 12)}
HOUR_MS = 60 * MINUTE_MS


class Session(NamedTuple):
    """One trading day of a calendar: its date as the UTC midnight (ms) of its label, opening and close (ms, UTC)."""

    date_ms: int
    open_ms: int
    close_ms: int


class Window(NamedTuple):
    """[lo, hi) ms in which bars are expected."""

    lo_ms: int
    hi_ms: int


def windows(calendar: str, sessions: Iterable[Session], *, extended: bool = False) -> list[Window]:
    """The sessions widened by what the calendar's source has around them, oldest first."""
    margin = MARGINS.get(calendar, (0, 0))
    before, after = EXTENDED.get(calendar, margin) if extended else margin
    return [Window(session.open_ms - before * MINUTE_MS, session.close_ms + after * MINUTE_MS) for session in sessions]


def of_its_date(calendar: str, time_ms: int) -> bool:
    """Whether a minute (or a 4h bar) belongs to the session of the UTC date it lies in, and so to the 1d bar there."""
    first, end = OWN_HOURS.get(calendar, (0, 24))
    return first * HOUR_MS <= time_ms % DAY_MS < end * HOUR_MS


def of_other_dates(calendar: str, date_ms: int) -> list[int]:
    """The starts (ms) of the 4h bars in a UTC date that belong to another date's session."""
    if calendar not in OWN_HOURS:
        return []
    starts = range(date_ms, date_ms + DAY_MS, Timeframe.H4.ms)
    return [start for start in starts if not of_its_date(calendar, start)]


def clipped(lo_ms: int, hi_ms: int, expected: Sequence[Window]) -> list[Window]:
    """The parts of [lo, hi) in which bars are expected."""
    cut = (Window(max(lo_ms, window.lo_ms), min(hi_ms, window.hi_ms)) for window in expected)
    return [window for window in cut if window.lo_ms < window.hi_ms]


def current(now_ms: int, expected: Sequence[Window]) -> Window | None:
    """The window that holds `now_ms`, None outside of all."""
    return next((window for window in expected if window.lo_ms <= now_ms < window.hi_ms), None)


def following(now_ms: int, expected: Sequence[Window]) -> Window | None:
    """The first window that begins after `now_ms`."""
    return next((window for window in expected if window.lo_ms > now_ms), None)


def always(lo_ms: int, hi_ms: int) -> list[Session]:
    """The sessions of a market that never closes: each UTC day that [lo, hi) touches."""
    return [Session(day, day, day + DAY_MS) for day in range(lo_ms // DAY_MS * DAY_MS, hi_ms, DAY_MS)]
