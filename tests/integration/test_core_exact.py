"""Recorded trades through ledger, merge, closing and roll-up give the independent bars, on a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Origin, State
from app.domain.timeframes import ROLLUPS, Timeframe
from tests.factories import add_instrument, as_recorded, bars, cut, numbers, recorded_minutes, recorded_trades, settle


@pytest.fixture
def core(settings: Settings, engine: sa.Engine, redis_client: redis.Redis) -> Iterator[Platform]:
    platform = Platform(settings.model_copy(update={"import_idle_s": 0.0}), "tests")
    with engine.begin() as connection:
        for table in ("candles_1m", "ledger", "feeds", "feed_batches", "touched", "coverage", "holes", "backfills"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
        for tf in ROLLUPS:
            connection.execute(sa.text(f'TRUNCATE "candles_{tf.value}"'))
    yield platform
    platform.engine.dispose()


def decimal_roll_up(minutes: dict[int, tuple[str, ...]], tf: Timeframe) -> dict[int, tuple[float | Decimal, ...]]:
    """The longer bars of the recorded minutes in exact decimals, by code that shares nothing with the product's."""
    grouped: dict[int, list[tuple[str, ...]]] = {}
    for time_ms in sorted(minutes):
        grouped.setdefault(time_ms // tf.ms * tf.ms, []).append(minutes[time_ms])
    rolled: dict[int, tuple[float | Decimal, ...]] = {}
    for start, rows in grouped.items():
        highs, lows = max(Decimal(row[1]) for row in rows), min(Decimal(row[2]) for row in rows)
        sums = [sum((Decimal(row[i]) for row in rows), Decimal(0)) for i in (4, 5, 6)]
        rolled[start] = (float(rows[0][0]), float(highs), float(lows), float(rows[-1][3]), *sums)
    return rolled


def check(engine: sa.Engine, instrument_id: int, minutes: dict[int, tuple[str, ...]]) -> None:
    stored = {bar.time_ms: bar for bar in bars(engine, instrument_id)}
    traded = {time_ms: bar for time_ms, bar in stored.items() if bar.trade_count}
    assert {t: as_recorded(bar) for t, bar in traded.items()} == {t: numbers(row) for t, row in minutes.items()}
    first, last = min(minutes), max(minutes)
    assert sorted(stored) == list(range(first, last + 1, 60_000)), "every minute is there"
    close = None
    for time_ms in sorted(stored):
        bar = stored[time_ms]
        if not bar.trade_count:
            assert (bar.open, bar.high, bar.low, bar.close) == (close,) * 4
            assert (bar.origin, bar.volume, bar.quote_volume) == (Origin.FLAT, 0, 0)
        assert bar.state is State.CLOSED
        close = bar.close
    for tf in ROLLUPS:
        rolled = {bar.time_ms: bar for bar in bars(engine, instrument_id, tf.value)}
        expected = decimal_roll_up(minutes, tf)
        assert {t: as_recorded(bar) for t, bar in rolled.items() if bar.trade_count} == expected, tf
        grid = range(first // tf.ms * tf.ms, last + 1, tf.ms)
        assert sorted(rolled) == list(grid)
        for start, bar in rolled.items():
            whole = start >= first - first % 60_000 and start + tf.ms <= last + 60_000
            assert (bar.state is State.CLOSED) == whole, (tf, start)


def test_the_recorded_days(core: Platform, engine: sa.Engine, shared_data: Path) -> None:
    instrument = add_instrument(engine)
    for batch in cut(recorded_trades(shared_data, instrument), 5000):
        core.ingest.apply(batch)
    settle(core)
    minutes = recorded_minutes(shared_data)
    assert len(minutes) == 2469
    check(engine, instrument, minutes)
    assert sum(1 for bar in bars(engine, instrument) if not bar.trade_count) == 1091


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_twice_interleaved(core: Platform, engine: sa.Engine, shared_data: Path, seed: int) -> None:
    instrument = add_instrument(engine)
    trades = recorded_trades(shared_data, instrument)
    chance = random.Random(seed)
    first = cut(trades, 400, run=1)
    shuffled = trades[:]
    chance.shuffle(shuffled)
    second = cut(shuffled, 700, run=2)
    deliveries = [*first, *second, *chance.sample(first, 10)]
    chance.shuffle(deliveries)
    for number, batch in enumerate(deliveries):
        core.ingest.apply(batch)
        if number % 7 == 0:
            settle(core)
    settle(core)
    check(engine, instrument, recorded_minutes(shared_data))
    with engine.begin() as connection:
        ids = connection.scalar(sa.text("SELECT applied::text FROM ledger WHERE instrument_id = :i"), {"i": instrument})
    assert ids == "{[15373518,15388190)}"


def test_a_batch_delivered_again_changes_nothing(core: Platform, engine: sa.Engine, shared_data: Path) -> None:
    instrument = add_instrument(engine)
    batches = cut(recorded_trades(shared_data, instrument)[:3000], 1000)
    for batch in batches:
        core.ingest.apply(batch)
    settle(core)
    before = [replace(bar) for bar in bars(engine, instrument)]
    outcome = core.ingest.apply(batches[1])
    assert (outcome.accepted, outcome.known) == (0, 1000)
    settle(core)
    assert bars(engine, instrument) == before
