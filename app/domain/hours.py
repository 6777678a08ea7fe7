"""Trading hours as one usual session, its holidays and its shorter days: how charting programs are told a calendar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.sessions import ALWAYS, Session, Window, windows
from app.domain.timeframes import DAY_MS
from app.domain.zones import zone_of

WEEKEND = 5  # the weekday (Monday is 0) from which on nobody expects a session, unless told
UNKNOWN = "0000-0000"  # a day from midnight to midnight, while no session is stored


@dataclass(frozen=True, slots=True)
class Hours:
    """A calendar in its exchange's own time: `0930-1600`, days as `20261225`, corrections as `0930-1300:20261127`."""

    zone: str
    session: str
    holidays: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()


def trading_hours(calendar: str, stored: Sequence[Session], *, extended: bool = False) -> Hours:
    """The hours of a calendar's stored sessions (oldest first): the most frequent ones, and where days differ.

    A session of a Saturday or Sunday (Riyadh's week begins on Sunday) is a correction, whatever its hours: a usual
    session is one of Monday to Friday.
    """
    zone = zone_of(calendar)
    if "/" not in zone:
        zone = f"Etc/{zone}"  # UTC, as charting programs write it
    if calendar == ALWAYS:
        return Hours(zone, "24x7")
    if not stored:
        return Hours(zone, UNKNOWN)
    expected = windows(calendar, stored, extended=extended)
    by_date = {session.date_ms: _span(window, zone) for session, window in zip(stored, expected, strict=True)}
    usual, _ = Counter(by_date.values()).most_common(1)[0]
    odd = tuple(f"{span}:{_day(date)}" for date, span in by_date.items() if span != usual or _weekend(date))
    days = range(stored[0].date_ms, stored[-1].date_ms, DAY_MS)
    closed = tuple(_day(date) for date in days if date not in by_date and not _weekend(date))
    return Hours(zone, usual, closed, odd)


def _span(window: Window, zone: str) -> str:
    start, end = (_moment(time_ms).astimezone(ZoneInfo(zone)) for time_ms in window)
    return f"{start:%H%M}-{end:%H%M}"


def _weekend(date_ms: int) -> bool:
    return _moment(date_ms).weekday() >= WEEKEND


def _day(date_ms: int) -> str:
    return f"{_moment(date_ms):%Y%m%d}"


def _moment(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
