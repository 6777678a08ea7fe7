"""The law: any order, split and duplication of batches gives the same bars, in a real PostgreSQL."""

from __future__ import annotations

import itertools

import pytest
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import partial_bars
from app.domain.timeframes import Timeframe
from app.domain.trades import Trade, TradeBatch
from app.storage import candles
from tests.strategies import deliveries, streams

numbers = itertools.count(1000, 2)


@pytest.fixture
def core(settings: Settings, redis_client: redis.Redis) -> Platform:
    return Platform(settings, "tests")


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trades=streams(most=25), data=st.data())
def test_same_bars_whatever_is_delivered(core: Platform, trades: list[Trade], data: st.DataObject) -> None:
    base = next(numbers)
    moved = [trade._replace(instrument_id=base + trade.instrument_id - 1) for trade in trades]
    for delivery in data.draw(deliveries(moved)):
        core.ingest.apply(TradeBatch.of(delivery))
    expected = {(bar.instrument_id, bar.time_ms): bar for bar in partial_bars(TradeBatch.of(moved))}
    with core.engine.begin() as connection:
        stored = [bar for i in (base, base + 1) for bar in candles.read(connection, i, Timeframe.M1, limit=5000)]
        pieces = connection.scalars(
            sa.text(
                "SELECT count(*) FROM ledger, unnest(applied) WHERE instrument_id = ANY(:ids) GROUP BY instrument_id"
            ),
            {"ids": [base, base + 1]},
        ).all()
    assert set(pieces) == {1}, "each stream's ids are one piece"
    assert len(stored) == len(expected)
    for bar in stored:
        wanted = expected[bar.instrument_id, bar.time_ms]
        assert all(getattr(bar, name) == getattr(wanted, name) for name in wanted._fields)
