"""Extended hours are kept where the source has them: the calendars' other margins stay, other sources have none."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.gaps import Gap
from app.domain.instruments import Exchange, Instrument
from app.domain.sessions import Session, windows
from app.domain.timeframes import MINUTE_MS
from app.services.expected import Expected
from app.services.gaps import Gaps
from app.services.markets import Markets
from webapp.udf_symbols import Symbols

HOUR_MS = 60 * MINUTE_MS
NONE: Any = None


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


DAY_MS = ms("2026-11-20")
SESSIONS = {
    "XNYS": [Session(DAY_MS, ms("2026-11-20T14:30"), ms("2026-11-20T21:00"))],
    "XIST": [Session(DAY_MS, ms("2026-11-20T07:00"), ms("2026-11-20T15:00"))],
}
# (exchange, calendar) → minutes before and after the session in which bars are expected with EXTENDED_HOURS=1.
WIDER = {("alpaca", "XNYS"): (330, 240), ("yahoo", "XNYS"): (0, 0), ("yahoo", "XIST"): (20, 10)}


class Stored:
    """The sessions above."""

    def read(self, _connection: Any, calendar: str, _lo_ms: int, _hi_ms: int) -> list[Session]:
        return SESSIONS[calendar]

    def last(self, _connection: Any, calendar: str) -> int | None:
        return SESSIONS[calendar][-1].date_ms


class OneGap:
    """A day that is a gap of every instrument."""

    def gaps(self, _connection: Any, instruments: Any, **_span: Any) -> list[Gap]:
        return [Gap(each, DAY_MS, DAY_MS + 26 * HOUR_MS, "feed down", 0) for each in instruments]


def instrument(exchange: str, calendar: str) -> Instrument:
    return Instrument(1, Exchange(exchange), "A", "A", "stock", "USD", calendar, True, 2)


def test_extended_hours_of_new_york_leave_istanbul_its_auctions() -> None:
    for extended in (False, True):
        ((lo_ms, hi_ms),) = windows("XIST", SESSIONS["XIST"], extended=extended)
        assert (lo_ms, hi_ms) == (ms("2026-11-20T06:40"), ms("2026-11-20T15:10"))


@pytest.mark.parametrize(("market", "minutes"), WIDER.items())
def test_bars_are_expected_in_extended_hours_where_the_source_has_them(
    market: tuple[str, str], minutes: tuple[int, int]
) -> None:
    session, item = SESSIONS[market[1]][0], instrument(*market)
    window = (session.open_ms - minutes[0] * MINUTE_MS, session.close_ms + minutes[1] * MINUTE_MS)
    expected = Expected(Stored(), extended=True)
    assert expected.windows(NONE, item, DAY_MS, DAY_MS + 26 * HOUR_MS) == [window]
    (gap,) = Gaps(OneGap(), Stored(), extended=True).of_many(NONE, [item])[1]
    assert (gap["start"], gap["end"]) == window
    for now_ms, state in ((window[0] - 1, "closed"), (window[0], "open"), (window[1] - 1, "open")):
        markets = Markets(lambda: nullcontext(NONE), Stored(), now_ms=lambda now_ms=now_ms: now_ms, extended=True)
        assert markets.states(WIDER)[market].state == state


def test_charting_programs_are_told_each_sources_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.udf_symbols.sessions", Stored())
    settings, reads = SimpleNamespace(extended_hours=True), SimpleNamespace(connect=lambda: nullcontext(NONE))
    web: Any = SimpleNamespace(settings=settings, reads=reads, now_ms=lambda: DAY_MS)
    symbols = Symbols(web)
    told = {market: symbols.describe(instrument(*market))["session"] for market in WIDER}
    assert told == {("alpaca", "XNYS"): "0400-2000", ("yahoo", "XNYS"): "0930-1600", ("yahoo", "XIST"): "0940-1810"}
