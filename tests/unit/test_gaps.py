"""Gaps of many series read together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.domain.gaps import Gap
from app.domain.instruments import Exchange, Instrument
from app.services.gaps import MOST, Gaps

SYMBOLS = [
    Instrument(number, Exchange.BINANCE, f"C{number}/USDT", f"C{number}USDT", "crypto", "USDT", "24/7", True, 2)
    for number in range(1, 501)
]
UNUSED: Any = None


class Outages:
    """A store in which each outage left a gap of each instrument."""

    def __init__(self, count: int) -> None:
        self._count = count

    def gaps(
        self, _connection: Any, instruments: Iterable[int], *, lo_ms: Any = None, hi_ms: Any = None, limit: int = 1000
    ) -> list[Gap]:
        ids = list(instruments)
        rows = [Gap(each, n * 1000, n * 1000 + 500, "feed down", 0) for n in range(self._count) for each in ids]
        return rows[-limit:] if limit else []


def test_every_gap_is_told_after_outages_of_many() -> None:
    """As many as a chart over REST has: a gap that is gone from the list is taken for repaired."""
    found = Gaps(Outages(3), UNUSED).of_many(UNUSED, SYMBOLS)
    assert {len(gaps) for gaps in found.values()} == {3} and len(found) == len(SYMBOLS)
    found = Gaps(Outages(MOST + 1), UNUSED).of_many(UNUSED, SYMBOLS[:3])
    assert {len(gaps) for gaps in found.values()} == {MOST}
