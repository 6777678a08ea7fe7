"""When stocks trade: the sessions of XNYS and XIST, from the library exchange_calendars, read when first asked for.

XNYS trades from 09:30 to 16:00 New York time, with a few prints from 04:00 and to 20:00; XIST from 10:00 to 18:00
Istanbul time with its auctions at 09:55 to 10:00 and 18:05 to 18:10. Holidays, half days and daylight saving are
the library's.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from typing import NamedTuple

from app.errors import BadInput

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
ORIGIN_US = 1_500_000_000_000_000 // DAY_US * DAY_US  # 2017-07-14: no session before
LAST_US = 2_208_988_800_000_000  # 2040: none after
YEAR_US = 366 * DAY_US


class Rules(NamedTuple):
    """A calendar's prints around its sessions, in minutes: how long before and after, and the pause at the close."""

    before: int
    pause: int
    after: int
    auction: bool  # they are auctions, which belong to the session


RULES = {"XNYS": Rules(330, 0, 240, False), "XIST": Rules(5, 5, 10, True)}


class Session(NamedTuple):
    """One trading day, times in µs: its date at 00:00 UTC, opening and close, the span that has prints at all."""

    date_us: int
    open_us: int
    close_us: int
    lo_us: int
    hi_us: int
    whole: bool  # the prints around belong to the session

    @property
    def regular_us(self) -> tuple[int, int]:
        """[lo, hi) of the prints that make the daily bar."""
        return (self.lo_us, self.hi_us) if self.whole else (self.open_us, self.close_us)

    @property
    def over_us(self) -> int:
        """When the daily bar is complete."""
        return self.regular_us[1]


class Hours:
    """The sessions of one calendar, oldest first."""

    def __init__(self, calendar: str) -> None:
        self.calendar = calendar
        self.rules = RULES[calendar]
        self._lo_us = self._hi_us = 0
        self._sessions: list[Session] = []
        self._ends: list[int] = []

    def between(self, lo_us: int, hi_us: int) -> list[Session]:
        """The sessions whose span touches [lo, hi)."""
        lo_us, hi_us = max(lo_us, ORIGIN_US), min(hi_us, LAST_US)
        if hi_us <= lo_us:
            return []
        self._load(lo_us, hi_us)
        first = bisect_left(self._ends, lo_us + 1)
        found = []
        for session in self._sessions[first:]:
            if session.lo_us >= hi_us:
                break
            found.append(session)
        return found

    def dated(self, lo_us: int, hi_us: int) -> list[Session]:
        """The sessions whose date lies in [lo, hi)."""
        return [session for session in self.between(lo_us, hi_us + DAY_US) if lo_us <= session.date_us < hi_us]

    def at(self, time_us: int) -> Session | None:
        """The session whose span holds `time_us`, None where nobody trades."""
        return next(iter(self.between(time_us, time_us + 1)), None)

    def following(self, time_us: int) -> Session | None:
        """The session that holds `time_us`, or the first after it; None where no calendar reaches."""
        return next(iter(self.between(time_us, time_us + 20 * DAY_US)), None)

    def _load(self, lo_us: int, hi_us: int) -> None:
        if self._lo_us <= lo_us and hi_us <= self._hi_us:
            return
        if self._hi_us:
            lo_us, hi_us = min(lo_us, self._lo_us), max(hi_us, self._hi_us)
        lo_us, hi_us = max(ORIGIN_US, lo_us - YEAR_US), min(LAST_US, hi_us + YEAR_US)
        self._sessions = _read(self.calendar, self.rules, lo_us, hi_us)
        self._ends = [session.hi_us for session in self._sessions]
        self._lo_us, self._hi_us = lo_us, hi_us


def _read(calendar: str, rules: Rules, lo_us: int, hi_us: int) -> list[Session]:
    import exchange_calendars  # a second's worth of pandas: only where stocks are asked for
    import pandas as pd

    start, end = (pd.Timestamp(at // DAY_US * DAY_US, unit="us") for at in (lo_us, hi_us))
    try:
        with warnings.catch_warnings():  # of the library's own use of pandas
            warnings.simplefilter("ignore", DeprecationWarning)
            found = exchange_calendars.get_calendar(calendar, start=start, end=end)
    except ValueError as error:
        raise BadInput(f"no sessions of {calendar} from {start:%Y-%m-%d} to {end:%Y-%m-%d}: {error}") from error
    times = zip(
        (found.sessions_nanos // 1000).tolist(),
        (found.opens_nanos // 1000).tolist(),
        (found.closes_nanos // 1000).tolist(),
        strict=True,
    )
    before, after = rules.before * MINUTE_US, rules.after * MINUTE_US
    return [
        Session(date, opens, closes, opens - before, closes + after, rules.auction) for date, opens, closes in times
    ]
