"""Ledgers of runs that are forgotten go, and no trade of theirs counts twice, however late it comes again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.feeds import Stream
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.services.ingest import LOST, OLDEST_S
from app.storage import candles, catalog, feeds, holes, ledger

T0 = 1_570_800_600_000  # 2019-10-11 13:30 UTC, when New York opens
RUN, E8 = 77, 10**8
AAPL = [0]  # its id, once the database is there


def batch(n: int, *numbers: int, ago_s: float = 0.0) -> TradeBatch:
    """A batch of Alpaca's run, one print a number, sent so long ago."""
    prints = [Trade(AAPL[0], (T0 + number) * 1000, number, number, E8, E8, False) for number in numbers]
    mark = Mark(RUN, n, (T0 + 1000) * 1000, "alpaca", since_us=T0 * 1000)
    return TradeBatch.of(prints, mark=mark, sent_us=time.time_ns() // 1000 - int(ago_s * 1e6), id=f"{RUN:x}-{n}")


@pytest.fixture
def core(settings: Settings, redis_client: redis.Redis) -> Iterator[Platform]:
    platform = Platform(settings, "tests")
    with platform.engine.begin() as connection:
        for table in ("feeds", "feed_batches", "touched", "holes", "ledger", "candles_1m"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
        AAPL[0] = next(item.id for item in catalog.instruments(connection) if item.symbol == "AAPL")
    yield platform
    platform.engine.dispose()


def forgotten(core: Platform, *, days: float) -> list[int]:
    """The runs whose ledgers are left after two turns of upkeep, so many days later."""
    past = f"- interval '{days * 24} hours'"
    with core.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE feeds SET progress = progress {past}"))
        connection.execute(sa.text(f"UPDATE feed_batches SET at = at {past}"))
    for _ in range(2):
        with core.engine.begin() as connection:
            ledger.forget(connection, limit=100)
        with core.engine.begin() as connection:
            feeds.forget(connection, silent_s=600)
    with core.engine.begin() as connection:
        return list(connection.execute(sa.text("SELECT DISTINCT run FROM ledger ORDER BY run")).scalars())


def volume(core: Platform) -> Decimal:
    """What the minute of the prints holds."""
    with core.engine.begin() as connection:
        span = {"start_ms": T0, "end_ms": T0 + 60_000}
        (bar,) = candles.read_many(connection, [AAPL[0]], Timeframe.M1, **span)
    return bar.volume


def test_a_batch_that_comes_again_after_its_ledger_is_gone_counts_nothing_twice(core: Platform) -> None:
    core.ingest.apply(batch(1, 1, 2, 3))
    with core.engine.begin() as connection:
        ledger.take(connection, {Stream(AAPL[0], 0): [(5, 6)]})
    assert forgotten(core, days=0.9) == [0, RUN]
    assert core.ingest.apply(batch(1, 1, 2, 3, ago_s=0.9 * OLDEST_S)).known == 3
    assert forgotten(core, days=1.1) == [0]  # numbered by the exchange: kept for good
    done = core.ingest.apply(batch(1, 1, 2, 3, ago_s=1.1 * 86_400))
    assert (done.accepted, done.refused) == (0, 3)
    assert volume(core) == 3
    with core.engine.begin() as connection:
        found = [(hole.lo_ms, hole.hi_ms, hole.cause) for hole in holes.open_holes(connection)]
    assert found == [(T0, T0 + 60_000, LOST)]  # the exchange's own bar says what is in it
    assert core.redis.hget("system:counters", "too_late") == b"3"


def test_a_binance_batch_is_never_too_late(core: Platform) -> None:
    old = batch(1, 1, 2, ago_s=30 * 86_400)
    mark = Mark(RUN, 1, T0 * 1000, "binance", since_us=T0 * 1000)
    assert core.ingest.apply(replace(old, mark=mark)).accepted == 2


def test_a_run_that_speaks_again_and_a_row_that_is_held_stay(core: Platform) -> None:
    core.ingest.apply(batch(1, 1))
    held = core.engine.connect()
    with held.begin():
        ledger.take(held, {Stream(AAPL[0], RUN): [(2, 3)]})
        assert forgotten(core, days=2) == [RUN]  # and nobody waited
    held.close()
    core.ingest.apply(batch(2, 3))
    assert forgotten(core, days=0) == [RUN]
    assert forgotten(core, days=2) == []
