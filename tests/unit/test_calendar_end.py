"""A calendar that ends soon is a trouble of the status: somebody has to update what knows the holidays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.config import load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS
from app.services.status import Facts, Status

NONE: Any = None
END_MS = round(datetime(2026, 12, 31, tzinfo=UTC).timestamp() * 1000)
OTHERS = Instrument(1, Exchange.BINANCE, "BTC/USDT", "BTCUSDT", "crypto", "USDT", "24/7", True, 2)
SHARE = Instrument(2, Exchange.YAHOO, "INFY.NS", "INFY.NS", "stock", "INR", "XBOM", True, 2)


class Stored:
    """A calendar whose last session is known, or none at all."""

    def __init__(self, last_ms: int | None) -> None:
        self._last_ms = last_ms

    def read(self, _connection: Any, _calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
        days = [] if self._last_ms is None else range(END_MS - 100 * DAY_MS, self._last_ms + 1, DAY_MS)
        return [Session(day, day, day + DAY_MS // 2) for day in days if lo_ms <= day < hi_ms]

    def last(self, _connection: Any, calendar: str) -> int | None:
        return self._last_ms if calendar == "XBOM" else None


def look(last_ms: int | None, now_ms: int) -> Facts:
    facts = Facts()
    status = Status(load_settings(_env_file=None), NONE, NONE, Stored(last_ms), lambda _connection: [OTHERS, SHARE])
    status._hours(facts, NONE, now_ms)
    return facts


@pytest.mark.parametrize(("days", "word"), [(29, None), (27, "ends"), (0, "ends"), (-1, "ended"), (-40, "ended")])
def test_a_calendar_that_ends_within_four_weeks_is_trouble(days: int, word: str | None) -> None:
    troubles = look(END_MS, END_MS - days * DAY_MS).troubles
    if word is None:
        assert troubles == []
    else:
        (trouble,) = troubles
        wanted = f"the calendar XBOM {word} on 2026-12-31: update exchange_calendars or the platform, and restart"
        assert trouble.what == wanted and trouble.remedy


def test_a_calendar_not_stored_yet_is_worth_a_note_only() -> None:
    facts = look(None, END_MS)
    assert facts.troubles == [] and facts.notes == ["the sessions of XBOM are not known yet"]
