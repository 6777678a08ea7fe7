"""The merge law against a plain decimal oracle, and ids against sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain import dedupe
from app.domain.bars import UNPRICED, Bar, PartialBar, partial_bars
from app.domain.decimals import to_places
from app.domain.rollup import combine, live_bar
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.trades import Trade, TradeBatch
from tests.strategies import conditioned, deliveries, streams


def oracle(trades: list[Trade]) -> dict[tuple[int, int], tuple[object, ...]]:
    """Bars by a dict and Decimals, trade by trade."""
    found: dict[tuple[int, int], list[Trade]] = {}
    for trade in trades:
        found.setdefault((trade.instrument_id, trade.time_us // 60_000_000 * 60_000), []).append(trade)
    bars = {}
    for key, own in found.items():
        own.sort(key=lambda trade: (trade.time_us, trade.first))
        last = max(own, key=lambda trade: (trade.time_us, trade.last))
        prices = [Fraction(trade.price_e8, 10**8) for trade in own]
        with localcontext() as context:
            context.prec = 80
            sizes = [Decimal(trade.size_e8) / 10**8 for trade in own]
            quote = sum((size * trade.price_e8 / 10**8 for size, trade in zip(sizes, own, strict=True)), Decimal(0))
            taker = sum((size for size, trade in zip(sizes, own, strict=True) if trade.taker_buy), Decimal(0))
            bars[key] = (
                float(prices[0]), float(max(prices)), float(min(prices)), last.price_e8 / 10**8,
                sum(sizes, Decimal(0)), quote, taker, sum(trade.last - trade.first + 1 for trade in own),
            )  # fmt: skip
    return bars


def shown(batch: TradeBatch) -> dict[tuple[int, int], tuple[object, ...]]:
    return {
        (bar.instrument_id, bar.time_ms): (
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.quote_volume,
            bar.taker_buy_volume,
            bar.trade_count,
        )
        for bar in partial_bars(batch)
    }


@given(streams())
def test_minutes_are_exact(trades: list[Trade]) -> None:
    assert shown(TradeBatch.of(trades)) == oracle(trades)


NEVER = (0.0, UNPRICED, UNPRICED, 0.0, -1, -1)


def oracle_of_conditions(trades: list[Trade]) -> dict[tuple[int, int], tuple[object, ...]]:
    """Bars of prints with conditions, by a dict and Decimals; what nothing sets is the identity."""
    found: dict[tuple[int, int], list[Trade]] = {}
    for trade in trades:
        if trade.updates:
            found.setdefault((trade.instrument_id, trade.time_us // 60_000_000 * 60_000), []).append(trade)
    bars: dict[tuple[int, int], tuple[object, ...]] = {}
    for key, own in found.items():
        last = sorted((t for t in own if t.updates & 2), key=lambda t: (t.time_us, t.first))
        extreme = [t.price_e8 / 10**8 for t in own if t.updates & 1]
        counted = [t for t in own if t.updates & 4]
        edges = NEVER
        if last:
            a, b = last[0], last[-1]
            edges = (a.price_e8 / 10**8, a.time_us, a.first, b.price_e8 / 10**8, b.time_us, b.last)
        bars[key] = (
            *edges, max(extreme, default=-math.inf), min(extreme, default=math.inf),
            Fraction(sum(t.size_e8 for t in counted), 10**8),
            Fraction(sum(t.size_e8 * t.price_e8 for t in counted), 10**16),
            Fraction(sum(t.size_e8 for t in counted if t.taker_buy), 10**8),
            sum(t.last - t.first + 1 for t in counted),
        )  # fmt: skip
    return bars


def merged(parts: Iterable[PartialBar]) -> dict[tuple[int, int], tuple[object, ...]]:
    """Parts of the same minutes under the merge law: the one the database's upsert follows."""
    bars: dict[tuple[int, int], list[Any]] = {}
    for p in parts:
        opening, closing = (p.open_time, p.open_seq, p.open), (p.close_time, p.close_seq, p.close)
        sums = [Fraction(amount) for amount in (p.volume, p.quote_volume, p.taker_buy_volume, p.trade_count)]
        bar = bars.setdefault((p.instrument_id, p.time_ms), [opening, closing, p.high, p.low, *[Fraction(0)] * 4])
        bar[0], bar[1] = min(bar[0], opening), max(bar[1], closing)
        bar[2], bar[3] = max(bar[2], p.high), min(bar[3], p.low)
        bar[4:] = [a + b for a, b in zip(bar[4:], sums, strict=True)]
    return {
        key: (first[2], first[0], first[1], last[2], last[0], last[1], *rest)
        for key, (first, last, *rest) in bars.items()
    }


@given(conditioned(), st.data())
def test_conditions_decide_whatever_the_order_the_cuts_and_the_repeats(
    trades: list[Trade], data: st.DataObject
) -> None:
    seen: set[tuple[int, int]] = set()
    parts: list[PartialBar] = []
    for delivery in data.draw(deliveries(trades)):
        fresh = [trade for trade in delivery if (trade.instrument_id, trade.first) not in seen]
        seen |= {(trade.instrument_id, trade.first) for trade in fresh}
        batch = TradeBatch.decode(TradeBatch.of(fresh).encode())
        parts += partial_bars(dedupe.distinct(batch).batch)
    assert merged(parts) == oracle_of_conditions(trades)


def test_a_print_that_updates_nothing_makes_no_minute() -> None:
    assert partial_bars(TradeBatch.of([Trade(1, 60_000_000, 1, 1, 5, 5, False, 0)])) == []


def test_an_odd_lot_alone_leaves_the_minute_without_prices() -> None:
    (bar,) = partial_bars(TradeBatch.of([Trade(1, 60_000_000, 1, 1, 5 * 10**8, 10**8, False, 4)]))
    assert (bar.open_time, bar.open_seq, bar.close_time, bar.close_seq) == (UNPRICED, UNPRICED, -1, -1)
    assert (bar.open, bar.high, bar.low, bar.close) == (0.0, -math.inf, math.inf, 0.0)
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (Decimal(1), Decimal(5), 1)


@given(st.integers(1, 2**61), st.integers(1, 2**61), st.integers(1, 60))
def test_sums_hold_at_the_limits(price: int, size: int, count: int) -> None:
    trades = [Trade(1, i, i, i, price, size, True) for i in range(1, count + 1)]
    (bar,) = partial_bars(TradeBatch.of(trades))
    with localcontext() as context:
        context.prec = 80
        assert bar.volume == Decimal(size * count).scaleb(-8)
        assert bar.quote_volume == Decimal(price * size * count).scaleb(-16)


@given(streams(instruments=(1,)), st.data())
def test_distinct_leaves_each_id_once(trades: list[Trade], data: st.DataObject) -> None:
    for delivery in data.draw(deliveries(trades)):
        result = dedupe.distinct(TradeBatch.of(delivery))
        ids = [
            i
            for a, b in zip(result.batch.first.tolist(), result.batch.last.tolist(), strict=True)
            for i in range(a, b + 1)
        ]
        assert len(ids) == len(set(ids))
        assert set(ids) == {i for trade in delivery for i in range(trade.first, trade.last + 1)}
        assert len(result.batch) + result.repeated == len(delivery) and result.partial == 0
        ranges = dedupe.id_ranges(result.batch)[1]
        assert [i for a, b in ranges for i in range(a, b)] == sorted(ids)
        assert all(b < c for (_, b), (c, _) in pairwise(ranges))


def test_a_print_that_overlaps_another_is_refused() -> None:
    batch = TradeBatch.of([Trade(1, 1, 5, 8, 1, 1, True), Trade(1, 1, 8, 9, 1, 1, True), Trade(1, 1, 6, 6, 1, 1, True)])
    result = dedupe.distinct(batch)
    assert (result.batch.first.tolist(), result.repeated, result.partial) == ([5], 1, 1)


@given(streams(instruments=(1,)), st.data())
def test_unknown_is_what_no_range_touches(trades: list[Trade], data: st.DataObject) -> None:
    batch = dedupe.distinct(TradeBatch.of(trades)).batch
    starts = data.draw(st.sets(st.integers(int(batch.first[0]) - 3, int(batch.last[-1]) + 3), max_size=6))
    known = [(start, start + 1) for start in sorted(starts)]
    rows, covered, partial = dedupe.unknown(batch, 1, known)
    for row, (first, last) in enumerate(zip(batch.first.tolist(), batch.last.tolist(), strict=True)):
        ids = set(range(first, last + 1))
        assert rows[row] == (not ids & starts)
    assert int(rows.sum()) + covered + partial == len(batch)
    assert covered == sum(
        1 for a, b in zip(batch.first.tolist(), batch.last.tolist(), strict=True) if a == b and a in starts
    )


def minute(start: int, price: float, *, count: int = 1, order: int = 0) -> Bar:
    zero, one = Decimal(0), Decimal(1)
    volume = one if count else zero
    return Bar(
        1,
        start * MINUTE_MS,
        price,
        price,
        price,
        price,
        volume,
        volume,
        zero,
        count,
        start * 60_000_000,
        order,
        start * 60_000_000,
        order,
    )


def test_the_live_bar_never_adds_a_minute_twice() -> None:
    minutes = [minute(i, 10.0 + i, order=i + 1) for i in range(4)]
    whole = live_bar(None, minutes, Timeframe.M5)
    for known in range(5):
        base = combine(minutes[:known], 0) if known else None
        assert live_bar(base, minutes, Timeframe.M5) == whole
        assert live_bar(base, minutes[known:] or minutes, Timeframe.M5) == whole


def test_the_live_bar_ignores_quiet_minutes_beside_traded_ones() -> None:
    bar = live_bar(None, [minute(0, 5.0, order=1), minute(1, 99.0, count=0)], Timeframe.M5)
    assert bar is not None and (bar.high, bar.close, bar.trade_count) == (5.0, 5.0, 1)


@given(st.integers(0, 10**40), st.integers(0, 12))
def test_sums_of_any_size_are_rounded_half_to_even(digits: int, places: int) -> None:
    exact = Fraction(digits, 10**places)
    found = to_places(Decimal(digits).scaleb(-places, context=Context(prec=60)))
    assert Fraction(found) == Fraction(round(exact * 10**8), 10**8)
