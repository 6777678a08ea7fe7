"""Trading sessions as the library exchange_calendars knows them: holidays, half days, daylight saving."""

from __future__ import annotations

import warnings
from typing import Any

from app.domain.sessions import Session
from app.errors import BadInput

MARGIN_DAYS = 7  # the library wants a stretch with sessions in it


def sessions(calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
    """The calendar's sessions whose date lies in [lo, hi), oldest first; raises BadInput for an unknown calendar.

    Lunch breaks (Tokyo, Hong Kong) count as part of the session: no trade there is a quiet minute. The library takes
    a second to import, so it is imported here.
    """
    if hi_ms <= lo_ms:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's own use of pandas
        schedule = _schedule(calendar, lo_ms, hi_ms)
        columns = (schedule.index, schedule["open"].dt.tz_convert(None), schedule["close"].dt.tz_convert(None))
        times = (column.to_numpy().astype("datetime64[ms]").astype("int64").tolist() for column in columns)
        found = [Session(*row) for row in zip(*times, strict=True)]
    return [session for session in found if lo_ms <= session.date_ms < hi_ms]


def _schedule(calendar: str, lo_ms: int, hi_ms: int) -> Any:
    """The library's table of sessions, of the stretch and some days around it.

    Holidays that follow no rule are recorded to the end of a year (Bombay, Shanghai): what lies after is left out.
    """
    import exchange_calendars
    import pandas as pd

    start = pd.Timestamp(lo_ms, unit="ms").floor("D") - pd.Timedelta(days=MARGIN_DAYS)
    end = pd.Timestamp(hi_ms, unit="ms").floor("D") + pd.Timedelta(days=MARGIN_DAYS)
    reason = ""
    for last in (end, *(pd.Timestamp(year, 12, 31) for year in (end.year - 1, end.year - 2))):
        try:
            return exchange_calendars.get_calendar(calendar, start=start, end=last).schedule
        except exchange_calendars.errors.CalendarError as error:
            raise BadInput(f"no calendar {calendar!r}: {str(error).strip()[:200]}") from error
        except ValueError as error:
            reason = str(error).strip()[:200]
    raise BadInput(f"the calendar {calendar!r} says nothing of these days: {reason}")
