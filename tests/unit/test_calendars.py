"""Sessions as exchange_calendars has them, against facts of other origin.

XNYS: the holidays and early closings that nyse.com/markets/hours-calendars lists for 2026; daylight saving from 8 March
to 1 November 2026. XIST: the holiday table of Borsa Istanbul for 2026 (as Sabah printed it on 1 January 2026), with
half days on 19 March, 26 May and 28 October; continuous trading from 10:00 to 18:00 Istanbul time, UTC+3 all year.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.domain.sessions import OWN_HOURS, Session, Window, clipped, of_its_date, of_other_dates, windows
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.domain.yahoo_markets import HOME, MARKETS
from app.errors import BadInput
from app.sources.calendars import sessions


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def of(calendar: str, lo: str, hi: str) -> list[Session]:
    return sessions(calendar, ms(lo), ms(hi))


def on(calendar: str, day: str) -> tuple[str, str] | None:
    """Opening and close (UTC) of a day, None where there is no session."""
    found = of(calendar, day, f"{day}T12:00")
    times = [datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M") for s in found for at in (s.open_ms, s.close_ms)]
    assert all(session.date_ms == ms(day) for session in found)
    return (times[0], times[1]) if times else None


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        ("2026-03-06", ("14:30", "21:00")),  # the last day of winter time
        ("2026-03-09", ("13:30", "20:00")),
        ("2026-10-30", ("13:30", "20:00")),  # the last day of summer time
        ("2026-11-02", ("14:30", "21:00")),
        ("2026-11-26", None),  # Thanksgiving
        ("2026-11-27", ("14:30", "18:00")),  # closes at 13:00 New York time
        ("2026-12-24", ("14:30", "18:00")),
        ("2026-12-25", None),
        ("2026-07-03", None),  # Independence Day, observed
        ("2026-04-03", None),  # Good Friday
        ("2026-11-28", None),  # a Saturday
    ],
)
def test_new_york(day: str, hours: tuple[str, str] | None) -> None:
    assert on("XNYS", day) == hours


XIST_HOLIDAYS = ["2026-01-01", "2026-03-20", "2026-04-23", "2026-05-01", "2026-05-19", "2026-05-27", "2026-05-28",
                 "2026-05-29", "2026-07-15", "2026-10-29"]  # fmt: skip
XIST_HALF_DAYS = ["2026-03-19", "2026-05-26", "2026-10-28"]


def test_istanbul_has_one_session_a_weekday_but_for_its_holidays() -> None:
    found = of("XIST", "2026-01-01", "2027-01-01")
    dates = {datetime.fromtimestamp(session.date_ms / 1000, UTC).date().isoformat() for session in found}
    weekdays = {
        day.date().isoformat()
        for day in (datetime.fromtimestamp(ms("2026-01-01") / 1000 + 86_400 * n, UTC) for n in range(365))
        if day.weekday() < 5
    }
    assert weekdays - dates == set(XIST_HOLIDAYS)
    hours = {(session.open_ms % 86_400_000, session.close_ms % 86_400_000) for session in found}
    whole, half = (7 * 3_600_000, 15 * 3_600_000), (7 * 3_600_000, 9 * 3_600_000 + 30 * 60_000)
    assert hours == {whole, half}
    assert {s.date_ms for s in found if s.close_ms % 86_400_000 == half[1]} == {ms(day) for day in XIST_HALF_DAYS}


def test_istanbul_is_polled_around_its_auctions_without_a_break() -> None:
    week = windows("XIST", of("XIST", "2026-10-26", "2026-10-31"))
    assert week == [
        Window(ms(f"2026-10-{day}T06:40"), ms(f"2026-10-{day}T{end}"))
        for day, end in (("26", "15:10"), ("27", "15:10"), ("28", "09:40"), ("30", "15:10"))
    ]


def test_the_expected_grid_of_a_week_with_a_holiday_and_a_half_day() -> None:
    week = of("XNYS", "2026-11-23", "2026-11-28")
    minutes = sum(w.hi_ms - w.lo_ms for w in windows("XNYS", week)) // 60_000
    assert (len(week), minutes) == (4, 3 * 390 + 210)
    # A stretch over Thanksgiving has minutes of Wednesday and Friday only.
    parts = clipped(ms("2026-11-25T20:30"), ms("2026-11-27T15:00"), windows("XNYS", week))
    assert parts == [
        Window(ms("2026-11-25T20:30"), ms("2026-11-25T21:00")),
        Window(ms("2026-11-27T14:30"), ms("2026-11-27T15:00")),
    ]


def test_an_empty_stretch_and_an_unknown_calendar() -> None:
    assert of("XNYS", "2026-11-26", "2026-11-26") == []
    with pytest.raises(BadInput, match="XNOWHERE"):
        of("XNOWHERE", "2026-11-26", "2026-11-28")


def test_a_calendar_recorded_to_a_years_end_gives_what_it_has() -> None:
    found = of("XBOM", "2026-11-01", "2027-12-01")
    assert found
    assert found[-1].date_ms < ms("2027-01-01")


@pytest.mark.slow
def test_every_market_of_yahoo_has_a_calendar_the_library_knows() -> None:
    names = sorted({HOME[0], *(calendar for calendar, _ in MARKETS.values())} - {"XKRX"})  # Seoul's takes 5 s to make
    assert [name for name in names if len(of(name, "2026-11-02", "2026-11-14")) < 7] == []


@pytest.mark.filterwarnings("ignore:Series.values returning")  # raised inside the library
@pytest.mark.parametrize("calendar", [*OWN_HOURS, "XIST"])
def test_a_minute_belongs_to_the_date_it_lies_in_where_that_is_its_sessions(calendar: str) -> None:
    """All sessions of a year, extended ones in New York: over both changes of the clocks, and half days."""
    strange = 0
    for session in of(calendar, "2026-01-01", "2027-01-01"):
        ((lo_ms, hi_ms),) = windows(calendar, [session], extended=True)
        for time_ms in range(lo_ms, hi_ms, 15 * MINUTE_MS):
            own = time_ms // DAY_MS * DAY_MS == session.date_ms
            assert of_its_date(calendar, time_ms) is own, (session, time_ms)
            strange += not own
    assert bool(strange) is (calendar in OWN_HOURS)


def test_4h_bars_of_another_dates_session() -> None:
    day = ms("2026-01-16")
    hours = {
        calendar: [(t - day) // (60 * MINUTE_MS) for t in of_other_dates(calendar, day)]
        for calendar in ("XNYS", "XASX", "XIST", "24/7")
    }
    assert hours == {"XNYS": [0], "XASX": [12, 16, 20], "XIST": [], "24/7": []}
