"""The outbox's values: what changed bars ask for, and in which pieces."""

from __future__ import annotations

import pytest

from app.domain.outbox import LONG_PIECE_MS, Span, following
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.settle import MINUTES

T0 = 1_570_752_000_000


@pytest.mark.parametrize("tf", Timeframe)
@pytest.mark.parametrize("flats", [True, False])
def test_what_changed_bars_ask_for(tf: Timeframe, flats: bool) -> None:
    stage, _ = following(7, tf, [T0], flats=flats)
    assert stage == ("rollup" if tf is Timeframe.M1 or (flats and tf is not Timeframe.D1) else "indicators")


def test_a_transaction_settles_a_piece() -> None:
    """A page of 4h is more than a year: no transaction may settle all of it."""
    times = [T0 + place * Timeframe.H4.ms for place in range(2500)]
    _, spans = following(7, Timeframe.H4, times[::-1], flats=True)
    assert [time for lo, hi in ((s.lo_ms, s.hi_ms) for s in spans) for time in times if lo <= time <= hi] == times
    assert all(span.hi_ms - span.lo_ms < LONG_PIECE_MS <= MINUTES * MINUTE_MS for span in spans)
    assert len(spans) == 33
    assert following(7, Timeframe.D1, times, flats=True)[1] == [Span(7, T0, times[-1])]
    assert following(7, Timeframe.M1, [T0 + DAY_MS, T0], flats=False) == ("rollup", [Span(7, T0, T0 + DAY_MS)])
