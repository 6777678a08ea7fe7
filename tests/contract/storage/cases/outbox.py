"""The outbox and what is derived from marks: flat bars, roll-ups, days in doubt."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from app.domain.bars import State
from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.storage import candles, closing, outbox
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL, THYAO, at
from tests.contract.storage.registry import case, hours

M = MINUTE_MS


def starts(tf: Timeframe, clusters: Any = CLUSTERS) -> set[int]:
    """The buckets that the clusters touch, and one more on either side."""
    inner = {tf.floor(lo + place * M) for lo, length, _ in clusters for place in range(length)}
    return inner | {min(inner) - tf.ms, max(inner) + tf.ms}


@case(outbox.lock)
def lock(c: sa.Connection) -> bool:
    assert outbox.lock(c, 0)
    return outbox.lock(c, 3)


@case(outbox.take, touched=(5, 0))
def take(c: sa.Connection) -> object:
    first = outbox.take(c, "rollup", limit=2)
    assert sorted(span.instrument_id for span in first) == [BTC, SOL]
    even = outbox.take(c, "rollup", shard=0, shards=2)
    odd = outbox.take(c, "indicators", shard=1, shards=2)
    assert [span.instrument_id for span in odd] == [BTC]
    return sorted(first), sorted(even), odd


@case(outbox.mark, touched=(0, 3))
def mark(c: sa.Connection) -> None:
    outbox.mark(c, "publish", [Span(SOL, HAND, EDGE), Span(BTC, LIVE, LIVE), Span(BTC, LIVE, LIVE)])
    outbox.mark(c, "publish", [])


@case(outbox.left)
def left(c: sa.Connection) -> object:
    found = [outbox.left(c, Span(i, OLD, NOW)) for i in (BTC, SOL, THYAO)]
    assert found == [2, 1, 0]
    return [*found, outbox.left(c, Span(BTC, LIVE, NOW))]


@case(outbox.pending)
def pending(c: sa.Connection) -> object:
    found = {stage: (count, hours(age)) for stage, (count, age) in outbox.pending(c).items()}
    assert found == {"rollup": (4, 2), "indicators": (3, 4), "publish": (1, 1)}
    return found


@case(outbox.proven_flats, candles_1m=(0, 1))
def flats_that_ids_prove(c: sa.Connection) -> object:
    found = outbox.proven_flats(c, [Span(SOL, HAND, HAND + 8 * M)], lo_ms=HAND - 7 * DAY_MS, hi_ms=HAND + 7 * DAY_MS)
    assert found == [(SOL, HAND + 2 * M)]
    made = candles.read(c, SOL, Timeframe.M1, start_ms=HAND + 2 * M, end_ms=HAND + 3 * M)[0]
    assert (made.open, made.close, made.volume, made.trade_count, made.state) == (11, 11, Decimal(0), 0, State.CLOSED)
    return found, outbox.proven_flats(c, [], lo_ms=OLD, hi_ms=NOW)


@case(outbox.proven_flats, candles_1m=(0, 53))
def flats_of_drawn_series(c: sa.Connection) -> object:
    spans = [Span(i, lo, lo + (length - 1) * M) for i in (BTC, ETH) for lo, length, _ in CLUSTERS]
    found = outbox.proven_flats(c, spans, lo_ms=OLD - DAY_MS, hi_ms=NOW + DAY_MS)
    assert {i for i, _ in found} == {BTC, ETH}
    return sorted(found)


@case(outbox.fix_flats, candles_1m=(1, 1))
def flats_behind_a_revised_close(c: sa.Connection) -> object:
    found = outbox.fix_flats(c, [Span(SOL, HAND, HAND + 8 * M)], lo_ms=HAND - 7 * DAY_MS, hi_ms=HAND + 7 * DAY_MS)
    assert found == [(SOL, HAND + 7 * M)]
    mended = candles.read(c, SOL, Timeframe.M1, start_ms=HAND + 7 * M, end_ms=HAND + 8 * M)[0]
    assert (mended.open, mended.close, mended.revision) == (13.25, 13.25, 1)
    return found


@case(outbox.fix_flats, candles_1m=(86, 86))
def flats_behind_live_bars(c: sa.Connection) -> object:
    c.execute(
        sa.text(
            "UPDATE candles_1m SET close = close + 1 WHERE instrument_id = 1 AND time >= '2019-11-01' AND origin = 0"
        )
    )
    spans = [Span(BTC, lo, lo + (length - 1) * M) for lo, length, _ in CLUSTERS[3:]]
    found = outbox.fix_flats(c, spans, lo_ms=EDGE + DAY_MS, hi_ms=NOW)
    assert found
    return sorted(found), outbox.fix_flats(c, [], lo_ms=OLD, hi_ms=NOW)


def _roll_up(tf: Timeframe) -> Any:
    def body(c: sa.Connection) -> object:
        buckets = {i: starts(tf) for i in (BTC, ETH, AAPL, THYAO)}
        buckets[SOL] = {tf.floor(t) for t in (HAND, EDGE - M, EDGE, LIVE)}
        pairs = [(i, t) for i in (AAPL, THYAO) for t in buckets[i]]
        whole = closing.whole(c, tf, pairs)
        natives = {AAPL, THYAO} if tf is Timeframe.D1 else set()
        changed = outbox.roll_up(c, tf, buckets, whole=whole, natives=natives)
        assert changed > 0
        assert outbox.roll_up(c, tf, buckets, whole=whole, natives=natives) == 0  # idempotent
        return changed

    body.__name__ = f"roll_up_{tf.value}"
    return body


for _tf, _rows in zip(ROLLUPS, ((106, 132), (14, 22), (3, 7), (5, 10), (7, 7)), strict=True):
    case(outbox.roll_up, changed={f"candles_{_tf.value}": _rows})(_roll_up(_tf))


@case(outbox.roll_up, candles_5m=(2, 2))
def roll_up_by_hand(c: sa.Connection) -> object:
    c.execute(
        sa.text("DELETE FROM candles_5m WHERE instrument_id = :i AND time >= '2019-10-18' AND time < '2019-10-19'"),
        {"i": SOL},
    )
    assert outbox.roll_up(c, Timeframe.M5, {SOL: [HAND, HAND + 5 * M]}) == 2
    first, second = candles.read(c, SOL, Timeframe.M5, start_ms=HAND, end_ms=HAND + 10 * M)
    assert (first.open, first.high, first.low, first.close, first.trade_count) == (10, 12, 9, 12, 15)  # no flat's 11
    assert (first.open_seq, first.close_seq, first.state) == (101, 115, 0)  # two minutes are missing
    assert (second.open, second.high, second.low, second.close, second.trade_count) == (
        13.5,
        14,
        12,
        12,
        10,
    )  # no open one
    return first, second, outbox.roll_up(c, Timeframe.M5, {})


@case(outbox.doubt_days, candles_1d=(2, 2))
def doubt_days(c: sa.Connection) -> object:
    days = [at("2019-10-14"), at("2019-10-16"), at("2019-10-29"), at("2019-11-01")]
    outbox.doubt_days(c, {AAPL: days, BTC: days})
    outbox.doubt_days(c, {})
    return [
        bar.state for bar in candles.read(c, AAPL, Timeframe.D1, start_ms=at("2019-10-14"), end_ms=at("2019-10-30"))
    ]


def _clear(tf: Timeframe) -> Any:
    def body(c: sa.Connection) -> object:
        c.execute(
            sa.text(
                f"DELETE FROM \"candles_{tf.below}\" WHERE instrument_id IN ({BTC}, {MSFT}) AND time >= '2019-10-20'"
            )
        )
        outbox.clear(c, tf, {i: starts(tf, CLUSTERS[1:]) for i in (BTC, MSFT, SOL)})
        outbox.clear(c, tf, {})
        return [len(candles.read(c, i, tf)) for i in (BTC, MSFT, SOL)]

    body.__name__ = f"clear_{tf.value}"
    return body


# Timeframe → rows that go: below it by the body's own hand, its bars, their indicators.
for _tf, _counts in zip(ROLLUPS, ((334, 79, 38), (79, 26, 11), (26, 13, 4), (13, 10, 5), (10, 10, 4)), strict=True):
    _names = (f"candles_{_tf.below}", f"candles_{_tf.value}", f"indicators_{_tf.value}")
    case(outbox.clear, changed={name: (gone, 0) for name, gone in zip(_names, _counts, strict=True)})(_clear(_tf))


@case(outbox.roll_up, outbox.clear, candles_4h=(0, 1), candles_1d=(2, 1), indicators_1d=(1, 0))
def days_without_others(c: sa.Connection) -> object:
    """4h bars that are not of their date: a day has the rest of them only, and goes where nothing is left."""
    day, again = Timeframe.D1.floor(LIVE), Timeframe.D1.floor(HAND)
    children = candles.read(c, BTC, Timeframe.H4, start_ms=day, end_ms=day + DAY_MS)
    kept, *_ = candles.read(c, SOL, Timeframe.H4, start_ms=again, end_ms=again + DAY_MS)
    late = [replace(kept, time_ms=kept.time_ms + 4 * 60 * M, close=kept.close + 5)]
    candles.replace(c, late, tf=Timeframe.H4)
    others = {(bar.instrument_id, bar.time_ms) for bar in [*children, *late]}
    days = {BTC: [day], SOL: [again]}
    assert children
    assert outbox.roll_up(c, Timeframe.D1, {SOL: [again]}) == 1, "with them it is another bar"
    changed = outbox.roll_up(c, Timeframe.D1, days, others=others)
    outbox.clear(c, Timeframe.D1, days, others=others)
    (left,) = candles.read(c, SOL, Timeframe.D1, start_ms=again, end_ms=again + DAY_MS)
    assert (left.open, left.close, left.volume) == (kept.open, kept.close, kept.volume)
    assert candles.read(c, BTC, Timeframe.D1, start_ms=day, end_ms=day + DAY_MS) == []
    return changed, left
