"""The indicators against TA-Lib over the whole history, and the warm-up law that makes a window suffice."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.indicator_names import INDICATORS
from app.domain.indicators import BarColumns, compute, reach_end, vwap, warm_up_start
from app.domain.outbox import Mark, Span, gather
from tests.indicator_oracle import Floats, assert_equal, exact_vwap, talib_columns

MINUTE = 60_000


def series(close: Floats, *, seed: int = 5) -> BarColumns:
    rng = np.random.default_rng(seed)
    spread = close * 0.001 * rng.uniform(0, 1, len(close))
    times = np.arange(len(close), dtype=np.int64) * MINUTE
    return BarColumns(times, close + spread, close - spread, close, rng.uniform(0, 50, len(close)).round(3))


def walk(n: int, *, seed: int = 1, price: float = 100.0, tick: float = 0.01) -> Floats:
    steps = np.random.default_rng(seed).integers(-20, 21, n)
    return np.asarray(np.round(price + np.cumsum(steps) * tick, 8))


def oracle(bars: BarColumns) -> dict[str, Floats]:
    return talib_columns(bars.high, bars.low, bars.close, bars.volume)


def check_window(bars: BarColumns, lo: int, hi: int) -> None:
    """The values of [lo, hi] from their window are those of the whole history."""
    start = warm_up_start(bars.close, lo, whole=True)
    assert start is not None
    got = {name: column[lo - start :] for name, column in compute(bars.part(start, hi + 1)).items()}
    want = {name: column[lo : hi + 1] for name, column in oracle(bars).items()}
    assert_equal(got, want, bars.close[lo : hi + 1], bars.volume)


@pytest.mark.parametrize("n", [1, 2, 13, 14, 15, 17, 18, 19, 20, 25, 26, 33, 34, 49, 50, 99, 100, 199, 200, 201, 900])
def test_short_histories_have_what_talib_has(n: int) -> None:
    bars = series(walk(n))
    got, want = compute(bars), oracle(bars)
    assert set(got) | {"vwap"} == set(INDICATORS)
    for name, column in want.items():
        np.testing.assert_array_equal(got[name], column, err_msg=name)


def test_no_negative_zero() -> None:
    got = compute(series(np.full(300, 5.0)))
    assert not any(np.any(np.signbit(column) & (column == 0)) for column in got.values())


def mixed(pieces: list[tuple[int, int, int]]) -> Floats:
    """Walks and flat stretches in turn; a piece is (bars, seed, tick exponent), tick exponent 0 is flat."""
    parts, price = [], 100.0
    for bars, seed, exponent in pieces:
        part = np.full(bars, price) if exponent == 0 else walk(bars, seed=seed, price=price, tick=10.0**-exponent)
        part = np.maximum(part, 1.0)
        parts.append(part)
        price = float(part[-1])
    return np.concatenate(parts)


pieces = st.lists(st.tuples(st.integers(1, 900), st.integers(0, 99), st.integers(0, 4)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(pieces, st.floats(0, 1), st.floats(0, 1))
@example([(700, 1, 2), (450, 0, 0)], 1.0, 1.0)
@example([(700, 1, 2), (450, 0, 0), (40, 3, 2)], 0.97, 1.0)
@example([(500, 1, 1), (6000, 0, 0)], 0.99, 1.0)
@example([(500, 1, 1), (6000, 0, 0), (30, 2, 2)], 0.999, 1.0)
@example([(900, 1, 1), (9000, 0, 0), (30, 2, 2)], 0.9, 1.0)
@example([(800, 1, 1), (300, 0, 0), (10, 1, 4), (300, 0, 0)], 1.0, 1.0)
def test_any_stretch_from_its_window_equals_the_whole_history(
    pieces: list[tuple[int, int, int]], begin: float, length: float
) -> None:
    bars = series(mixed(pieces))
    lo = int(begin * (len(bars) - 1))
    check_window(bars, lo, lo + int(length * (len(bars) - 1 - lo)))


@settings(max_examples=60, deadline=None)
@given(pieces, st.floats(0, 1), st.sampled_from([0.5, 0.99, 1.01, 2.0]))
@example([(700, 1, 2), (450, 0, 0), (900, 2, 2)], 0.33, 1.01)
@example([(300, 1, 2), (6000, 0, 0), (500, 2, 2)], 0.04, 2.0)
@example([(300, 1, 2), (9000, 0, 0), (500, 2, 2)], 0.02, 2.0)
def test_a_changed_bar_reaches_no_farther_than_its_memory(
    pieces: list[tuple[int, int, int]], place: float, factor: float
) -> None:
    close = mixed(pieces)
    at = int(place * (len(close) - 1))
    changed = close.copy()
    changed[at] *= factor
    end = reach_end(changed, at, whole=True)
    assert end is not None
    before, after = series(close), series(changed)
    beyond = slice(end + 1, None)
    assert_equal(
        {name: column[beyond] for name, column in oracle(before).items()},
        {name: column[beyond] for name, column in oracle(after).items()},
        changed[beyond],
        after.volume,
    )


def test_bars_in_front_change_only_what_is_in_reach() -> None:
    front, behind = walk(300, seed=8), walk(2_000, seed=9)
    joined = series(np.concatenate((front, behind)))
    end = reach_end(joined.close, len(front) - 1, whole=True)
    assert end is not None and end < len(joined) - 1
    alone = joined.part(len(front), len(joined))
    beyond = end + 1 - len(front)
    assert_equal(
        {name: column[beyond:] for name, column in oracle(alone).items()},
        {name: column[end + 1 :] for name, column in oracle(joined).items()},
        joined.close[end + 1 :],
        joined.volume,
    )


def test_windows_ask_for_more_where_they_do_not_suffice() -> None:
    close = np.arange(2_000.0)
    assert warm_up_start(close, 300, whole=False) is None
    assert warm_up_start(close, 300, whole=True) == 0
    assert warm_up_start(close, 1_500, whole=False) == 900
    assert reach_end(close, 1_000, whole=False) == 1_599
    assert reach_end(close, 1_500, whole=False) is None
    assert reach_end(close, 1_500, whole=True) == 1_999
    quiet = np.concatenate((close, np.full(25_000, 7.0), close))
    assert warm_up_start(quiet, 8_000, whole=False) == 1_400
    assert warm_up_start(quiet[1_999:], 8_000, whole=False) is None
    assert warm_up_start(quiet, 26_000, whole=False) == 6_000
    assert reach_end(quiet, 1_000, whole=False) == 1_599
    assert reach_end(quiet, 1_990, whole=False) == 21_990
    assert reach_end(quiet, 20_000, whole=False) == 26_999


def test_recorded_minutes_from_any_begin(shared_data: Path) -> None:
    rows = np.genfromtxt(shared_data / "XRPETH-1m-2019-10-11_13.csv", delimiter=",", usecols=(2, 3, 4, 5))
    bars = BarColumns(np.arange(len(rows), dtype=np.int64), *(np.ascontiguousarray(rows[:, i]) for i in range(4)))
    for lo in (0, 1, 200, 599, 600, 601, 1_234, 2_000, len(bars) - 1):
        check_window(bars, lo, len(bars) - 1)


amount = st.decimals(min_value=0, max_value=10**12, places=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 900), amount, amount), min_size=1, max_size=40), st.integers(0, 39))
def test_vwap_is_exact_and_anchored_at_the_day(rows: list[tuple[int, Decimal, Decimal]], split: int) -> None:
    times = (np.cumsum([gap for gap, _, _ in rows]) * MINUTE).tolist()
    volumes, quotes = [row[1] for row in rows], [row[2] for row in rows]
    want = exact_vwap(times, volumes, quotes)
    np.testing.assert_array_equal(vwap(times, volumes, quotes), want)
    split %= len(rows)
    today = [i for i in range(split) if times[i] // 86_400_000 == times[split] // 86_400_000]
    carried = (sum((volumes[i] for i in today), Decimal(0)), sum((quotes[i] for i in today), Decimal(0)))
    np.testing.assert_array_equal(vwap(times[split:], volumes[split:], quotes[split:], carried=carried), want[split:])


def test_daily_vwap_is_the_bars_own() -> None:
    day = 86_400_000
    got = vwap([0, day, 2 * day], [Decimal(2), Decimal(0), Decimal(4)], [Decimal(10), Decimal(0), Decimal(6)])
    np.testing.assert_array_equal(got, [5.0, np.nan, 1.5])


def test_marks_gather_by_instrument_and_are_cut() -> None:
    def mark(number: int, instrument: int, lo: int, hi: int) -> Mark:
        return Mark(number, instrument, lo * MINUTE, hi * MINUTE)

    marks = [mark(1, 7, 100, 159), mark(2, 8, 5, 5), mark(3, 7, 40, 99), mark(4, 7, 5_000, 5_000), mark(5, 9, 0, 9)]
    got = gather(marks, within_ms=600 * MINUTE, instruments=2)
    assert [each.span for each in got] == [Span(7, 40 * MINUTE, 159 * MINUTE), Span(8, 5 * MINUTE, 5 * MINUTE)]
    assert [[each.id for each in stretch.marks] for stretch in got] == [[1, 3], [2]]
    assert all(each.rest is None for each in got)

    cut = got[0].cut(70 * MINUTE)
    assert (cut.span, cut.rest) == (Span(7, 40 * MINUTE, 69 * MINUTE), Span(7, 70 * MINUTE, 159 * MINUTE))

    far = gather([mark(1, 7, 9_000, 9_000), mark(2, 7, 0, 0)], within_ms=600 * MINUTE, instruments=9)
    assert [each.id for each in far[0].marks] == [1], "the oldest mark goes first"


def test_the_module_loads_without_pandas() -> None:
    modules = "app.domain.indicators, app.services.derive, app.storage.indicators"
    code = f"import sys, {modules}; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_daily_history_of_another_exchange(shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "coinbase_btcusd_daily_trade.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode().splitlines()
    rows = np.array([[float(value) for value in line.split(",")[2:6]] for line in text])
    bars = BarColumns(np.arange(len(rows), dtype=np.int64), *(np.ascontiguousarray(rows[:, i]) for i in (0, 1, 2, 3)))
    for lo in (0, 700, len(bars) - 1):
        check_window(bars, lo, len(bars) - 1)
