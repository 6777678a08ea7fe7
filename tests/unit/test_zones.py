"""Time zones of calendars: those of exchange_calendars, for every calendar the platform can name."""

from __future__ import annotations

import exchange_calendars
import pytest

from app.domain.instruments import RULES
from app.domain.yahoo_markets import HOME, MARKETS
from app.domain.zones import ZONES, zone_of

CALENDARS = {calendar for calendar, _currency in (HOME, *MARKETS.values())}


def test_each_calendar_has_a_zone() -> None:
    assert CALENDARS | {rules.calendar for rules in RULES.values()} == set(ZONES)


@pytest.mark.filterwarnings("ignore:Series.values returning")  # raised inside the library
@pytest.mark.parametrize("calendar", sorted({"XNYS", "XIST", "XLON", "XTKS", "XBUE", "XNZE"}))
def test_the_zone_is_that_of_the_calendar(calendar: str) -> None:
    known = exchange_calendars.get_calendar(calendar, start="2026-01-05", end="2026-01-16")
    assert zone_of(calendar) == str(known.tz)


def test_an_unknown_calendar_is_read_in_utc() -> None:
    assert zone_of("XXXX") == "UTC" == zone_of("24/7")
