"""Calendars as charting programs are told them: in their own time zone, sessions of weekends declared."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.hours import Hours, trading_hours
from app.domain.sessions import Session

LONDON, RIYADH = ZoneInfo("Europe/London"), ZoneInfo("Asia/Riyadh")


def session(day: date, zone: ZoneInfo, opens: str, closes: str) -> Session:
    """The session of a local day."""
    times = (datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=zone) for clock in (opens, closes))
    label = datetime(day.year, day.month, day.day, tzinfo=UTC)
    date_ms, open_ms, close_ms = (round(moment.timestamp() * 1000) for moment in (label, *times))
    return Session(date_ms, open_ms, close_ms)


def days(first: str, count: int, weekdays: set[int]) -> list[date]:
    """So many days from the first, of these weekdays (Monday is 0)."""
    found = (date.fromisoformat(first) + timedelta(n) for n in range(count))
    return [day for day in found if day.weekday() in weekdays]


def test_summer_time_is_no_correction_in_the_calendars_own_zone() -> None:
    stored = [session(day, LONDON, "08:00", "16:30") for day in days("2026-01-05", 365, {0, 1, 2, 3, 4})]
    assert trading_hours("XLON", stored) == Hours("Europe/London", "0800-1630")


def test_a_week_that_begins_on_sunday_declares_its_sundays_and_closes_its_fridays() -> None:
    stored = [session(day, RIYADH, "10:00", "15:00") for day in days("2026-11-01", 14, {6, 0, 1, 2, 3})]
    assert trading_hours("XSAU", stored) == Hours(
        "Asia/Riyadh", "1000-1500", ("20261106",), ("1000-1500:20261101", "1000-1500:20261108")
    )


def test_a_special_saturday_is_declared_though_its_hours_are_usual() -> None:
    bombay = ZoneInfo("Asia/Kolkata")
    stored = [session(day, bombay, "09:15", "15:30") for day in days("2026-01-26", 7, {0, 1, 2, 3, 4, 5})]
    stored.append(session(date(2026, 2, 1), bombay, "18:15", "19:15"))
    assert trading_hours("XBOM", stored).corrections == ("0915-1530:20260131", "1815-1915:20260201")


def test_utc_is_written_as_charting_programs_do() -> None:
    assert trading_hours("24/7", []).zone == "Etc/UTC" == trading_hours("XXXX", []).zone
