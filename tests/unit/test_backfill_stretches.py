"""What is missing, what is asked for, what an answer settles: pure functions against sets of bars."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.history import Backfill, pace
from app.domain.stretches import answered, joined, missing, request, whole
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.services.backfilling import note
from app.services.pages import PAGES, newest_ms

STEP = 10
Places = st.integers(0, 60)
Stretches = st.lists(st.tuples(Places, Places).map(lambda pair: (min(pair) * STEP, max(pair) * STEP)), max_size=8)


def bars(stretches: list[tuple[int, int]]) -> set[int]:
    return {time for lo, hi in stretches for time in range(lo, hi, STEP)}


@given(Places, Places, Stretches, st.one_of(st.none(), Places))
@example(0, 2, [(STEP, STEP)], None)
def test_missing_is_the_range_without_what_is_held(
    lo: int, hi: int, held: list[tuple[int, int]], live: int | None
) -> None:
    lo, hi = lo * STEP, hi * STEP
    open_end = [] if live is None else [(live * STEP, None)]
    found = missing(lo, hi, [*held, *open_end])
    there = bars(held) | (set() if live is None else set(range(live * STEP, 1000 * STEP, STEP)))
    assert bars(found) == set(range(lo, hi, STEP)) - there
    assert all(a < b for a, b in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(Stretches)
def test_joined_is_the_same_time_in_stretches_that_do_not_touch(stretches: list[tuple[int, int]]) -> None:
    found = joined(stretches)
    assert bars(found) == bars(stretches)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(Stretches.filter(lambda found: any(lo < hi for lo, hi in found)), st.integers(1, 30), st.booleans())
def test_a_request_begins_at_the_first_missing_bar_and_ends_at_a_missing_one(
    stretches: list[tuple[int, int]], span: int, long: bool
) -> None:
    todo = joined(stretches)
    lo, hi = request(todo, span * STEP, long=long)
    wanted = bars(todo)
    assert lo == min(wanted) and hi - STEP in wanted
    assert hi - lo <= span * STEP or (long and (lo, hi) == todo[0])
    if not long or todo[0][1] - todo[0][0] < span * STEP:  # nothing that fits is left for another request
        assert wanted & set(range(lo, lo + span * STEP, STEP)) <= set(range(lo, hi, STEP))


@given(st.sets(st.integers(0, 40)), st.integers(0, 40), st.integers(0, 45), st.booleans())
def test_with_flat_bars_a_young_bar_that_is_missing_ends_what_is_settled(
    places: set[int], end: int, solid: int, full: bool
) -> None:
    times = sorted(place * STEP for place in places if place < end)
    upto = answered(times, (0, end * STEP), STEP, full=full, solid_ms=solid * STEP, flats=True)
    limit = times[-1] + STEP if full and times else end * STEP
    young_missing = [time for time in range(0, limit, STEP) if time >= solid * STEP and time not in times]
    assert upto == min([*young_missing, limit])


def test_without_flat_bars_time_alone_settles() -> None:
    assert answered([0, 10], (0, 100), STEP, full=False, solid_ms=75, flats=False) == 70
    assert answered([0, 10], (0, 100), STEP, full=False, solid_ms=500, flats=False) == 100
    assert answered([0, 10], (0, 100), STEP, full=True, solid_ms=500, flats=False) == 20
    assert answered([], (50, 100), STEP, full=False, solid_ms=10, flats=False) == 50


def test_buckets_that_lie_wholly_inside() -> None:
    assert whole([(5, 31), (41, 49), (60, None)], STEP) == [(10, 30), (60, None)]


def test_pages_of_each_exchange_hold_what_they_ask_for() -> None:
    """Ten sessions of 960 minutes are what two weeks can have; Yahoo's own limits are not passed."""
    binance, alpaca, yahoo = PAGES.values()
    assert binance.span_ms(Timeframe.M1) == 1000 * MINUTE_MS and binance.long
    for tf in Timeframe:
        a_day = max(1, -(-960 // tf.minutes) + (tf.minutes > 60))
        assert alpaca.span_ms(tf) / 86_400_000 * 5 / 7 * a_day <= alpaca.bars
    assert yahoo.span_ms(Timeframe.M1) == 7 * 86_400_000 and not yahoo.long
    assert yahoo.oldest_ms(Timeframe.M1, 40 * 86_400_000) == 11 * 86_400_000 + MINUTE_MS
    assert yahoo.oldest_ms(Timeframe.D1, 40 * 86_400_000) == alpaca.oldest_ms(Timeframe.M1, 40 * 86_400_000) == 0
    now_ms = 1_700_000_000_000
    assert [newest_ms(exchange, now_ms) - now_ms for exchange in PAGES] == [0, -30_000, -960_000]


def at(
    share: float, state: str = "running", bars: int = 600, started_ms: int | None = 0, updated_ms: int = 60_000
) -> Backfill:
    cursor = round(share * 1000)
    return Backfill(1, 1, Timeframe.M1, 0, 1000, cursor, state, bars, None, "user", started_ms, updated_ms)


def test_rate_and_time_left() -> None:
    assert (at(0.25).pace.rate, at(0.25).pace.left_s) == (10.0, 180.0)
    assert (at(0.0, bars=0).pace.rate, at(0.0, bars=0).pace.left_s) == (None, None)
    assert at(0.5, started_ms=None).pace.left_s is None
    assert at(0.5, "done").pace.left_s == at(0.5, "cancelled").pace.left_s == 0
    assert note(at(0.999, "waiting")) == "waits for its turn", "0:00 left would say that it is over in a moment"
    assert note(at(0.25, "waiting")) == note(at(0.999)) == ""
    assert note(at(0.999, "waiting")._replace(error="binance asks to wait")) == "binance asks to wait"
    both = pace([at(0.25), at(0.75, started_ms=10_000, updated_ms=120_000), at(0.1, "failed", 0)])
    assert (both.bars, both.share, both.took_s) == (1200, 2 / 3, 120.0)
    assert round(both.left_s or 0, 6) == 60.0 and both.rate == 10.0
