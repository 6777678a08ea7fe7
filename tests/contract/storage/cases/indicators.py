"""Indicators, and the columns of bars they come from."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import sqlalchemy as sa

from app.domain.indicator_names import INDICATORS
from app.domain.indicators import IndicatorColumns
from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import indicators
from tests.contract.storage.bars import AAPL, BTC, EDGE, HAND, LIVE, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case

M = MINUTE_MS
SPANS = [Span(BTC, OLD + 10 * M, EDGE + 5 * M), Span(SOL, HAND, HAND + 8 * M), Span(AAPL, OLD, NOW), Span(4, OLD, NOW)]


def columns(instrument: int, times: list[int]) -> IndicatorColumns:
    """Drawn values, some of them none."""
    chance = random.Random(instrument)
    values = {name: [math.nan if chance.random() < 0.2 else chance.gauss(0, 1e5) for _ in times] for name in INDICATORS}
    return IndicatorColumns(
        instrument, np.array(times, np.int64), {k: np.array(v, np.float64) for k, v in values.items()}
    )


@case(indicators.read)
def read(c: sa.Connection) -> object:
    found = indicators.read(c, BTC, Timeframe.M1, start_ms=EDGE - 20 * M, end_ms=EDGE + 20 * M)
    assert [row["time"] for row in found] == sorted(row["time"] for row in found)  # type: ignore[type-var]
    return found


@case(indicators.read_many)
def read_many(c: sa.Connection) -> object:
    return {tf: indicators.read_many(c, [SOL, AAPL, BTC], tf, start_ms=HAND, end_ms=EDGE + 10 * M) for tf in Timeframe}


def _write(tf: Timeframe) -> Any:
    def body(c: sa.Connection) -> int:
        times = {tf.floor(t) + step * tf.ms for t in (OLD, HAND, EDGE, LIVE, NOW + 30 * DAY_MS) for step in (-1, 0, 1)}
        rows = [columns(i, sorted(times)) for i in (BTC, THYAO)]
        count = indicators.write(c, tf, rows)
        assert count == 2 * len(times)
        stored = indicators.read(c, THYAO, tf, start_ms=OLD - 2 * tf.ms, end_ms=NOW + 60 * DAY_MS)
        assert [row["time"] for row in stored] == sorted(times)
        return count + indicators.write(c, tf, [])

    body.__name__ = f"write_{tf.value}"
    return body


for _tf, _stood in zip(Timeframe, (4, 6, 6, 5, 5, 5), strict=True):
    case(indicators.write, changed={f"indicators_{_tf.value}": (_stood, 30)})(_write(_tf))


@case(indicators.bars)
def bars(c: sa.Connection) -> object:
    found = {tf: indicators.bars(c, tf, SPANS) for tf in Timeframe}
    by_hand = found[Timeframe.M1][SOL]
    assert by_hand.time_ms.tolist() == [HAND + n * M for n in (0, 1, 3, 6, 7, 8)]  # no open minute
    assert by_hand.close.tolist() == [11, 11, 12, 13.25, 12.75, 12]
    assert 4 not in found[Timeframe.M1]
    return found, indicators.bars(c, Timeframe.M1, [])


@case(indicators.amounts)
def amounts(c: sa.Connection) -> object:
    return {tf: indicators.amounts(c, tf, SPANS) for tf in Timeframe}


@case(indicators.sums)
def sums(c: sa.Connection) -> object:
    return {tf: indicators.sums(c, tf, SPANS) for tf in Timeframe}, indicators.sums(c, Timeframe.M1, [])


@case(indicators.extents)
def extents(c: sa.Connection) -> object:
    found = {tf: indicators.extents(c, tf, [BTC, SOL, AAPL, THYAO, 4], from_ms=EDGE) for tf in Timeframe}
    assert found[Timeframe.M1][SOL] == (0, LIVE)  # it goes back for more than a week
    return (
        found,
        indicators.extents(c, Timeframe.M1, [SOL], from_ms=NOW),
        indicators.extents(c, Timeframe.M1, [SOL], from_ms=0),
    )


@case(indicators.following)
def following(c: sa.Connection) -> object:
    span = Span(SOL, HAND + 30_000, HAND + 8 * M)
    assert indicators.following(c, Timeframe.M1, span, bars=3) == HAND + 5 * M
    assert indicators.following(c, Timeframe.M1, span, bars=7) is None
    return [indicators.following(c, tf, Span(BTC, OLD, NOW), bars=n) for tf in Timeframe for n in (0, 1, 2, 100)]


@case(indicators.lock)
def lock(c: sa.Connection) -> bool:
    return indicators.lock(c, 0)


@case(indicators.marks)
def marks(c: sa.Connection) -> object:
    found = indicators.marks(c, shard=0, shards=1, limit=2)
    assert [mark.id for mark in found] == [3, 5]
    return found, indicators.marks(c, shard=0, shards=2, limit=9)


@case(indicators.settle, touched=(2, 3))
def settle(c: sa.Connection) -> None:
    done = indicators.marks(c, shard=0, shards=1, limit=2)
    indicators.settle(
        c, done=done, rest=[Span(BTC, LIVE, LIVE)], publish=[Span(BTC, OLD, LIVE), Span(AAPL, LIVE, LIVE)]
    )


@case(indicators.columns)
def columns_of_a_stretch(c: sa.Connection) -> object:
    span = {"start_ms": EDGE - 20 * M, "end_ms": EDGE + 20 * M}
    for tf in Timeframe:
        rows = indicators.read(c, BTC, tf, **span)
        found = indicators.columns(c, BTC, tf, **span)
        assert found["time"].tolist() == [row["time"] for row in rows]
        for name in INDICATORS:
            assert [None if math.isnan(value) else value for value in found[name].tolist()] == [r[name] for r in rows]
    assert len(indicators.columns(c, BTC, Timeframe.M1, start_ms=0, end_ms=1)) == 0
    return repr(indicators.columns(c, BTC, Timeframe.M1, **span).tolist())
