"""How far back closing looks: a week each second, everything at first and now and then, an import from its start."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import PartialBar, State
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.domain.trades import Mark
from app.storage import candles, catalog, feeds

T0 = 1_571_227_200_000  # 2019-10-16 12:00 UTC
OLD = T0 - 30 * DAY_MS


@pytest.fixture
def core(settings: Settings) -> Iterator[Platform]:
    platform = Platform(settings.model_copy(update={"import_idle_s": 0.0, "start_backfill_hours": 0}), "tests")
    with platform.engine.begin() as connection:
        for table in ("feeds", "feed_batches", "touched", "candles_1m"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
    yield platform
    platform.engine.dispose()


@pytest.fixture
def instrument(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        return catalog.instruments(connection)[0].id


def merge(core: Platform, instrument: int, time_ms: int) -> None:
    sums = (Decimal(1), Decimal(100), Decimal(1), 1)
    us, seq = time_ms * 1000, time_ms // MINUTE_MS
    with core.engine.begin() as connection:
        candles.merge(connection, [PartialBar(instrument, time_ms, 1.0, 1.0, 1.0, 1.0, *sums, us, seq, us, seq)])


def state(core: Platform, instrument: int, time_ms: int) -> State:
    with core.engine.begin() as connection:
        found = candles.read(connection, instrument, Timeframe.M1, start_ms=time_ms, end_ms=time_ms + MINUTE_MS)
    return found[0].state


def connect(core: Platform, instrument: int, *, run: int = 1, kind: str = "live", since_ms: int = T0) -> None:
    """A run whose clock is five minutes after T0; it was subscribed from `since_ms` on."""
    upto_us = (T0 + 5 * MINUTE_MS) * 1000
    subscribed = ((instrument, since_ms * 1000),)
    mark = Mark(run, 1, upto_us, "binance", kind=kind, since_us=since_ms * 1000, subscribed=subscribed)
    with core.engine.begin() as connection:
        feeds.open_run(connection, mark)
        feeds.record(connection, mark, accepted=1, known=0, refused=0, hi_ms=T0 + 5 * MINUTE_MS)


def test_the_first_pass_looks_at_everything(core: Platform, instrument: int) -> None:
    connect(core, instrument)
    for time_ms in (OLD, T0):
        merge(core, instrument, time_ms)
    assert core.closing.run() == 2


def test_then_a_week_each_pass_and_everything_now_and_then(core: Platform, instrument: int) -> None:
    connect(core, instrument)
    core.closing.run()
    for time_ms in (OLD, T0 - 6 * DAY_MS, T0):
        merge(core, instrument, time_ms)
    assert core.closing.run() == 2
    assert state(core, instrument, OLD) is State.OPEN
    core.closing.look.next_s = 0.0
    assert core.closing.run() == 1
    assert state(core, instrument, OLD) is State.CLOSED


def test_what_is_known_to_be_open_is_not_lost_sight_of(core: Platform, instrument: int) -> None:
    """A minute that was written too lately to close is found by the next pass, not by the next look."""
    connect(core, instrument)
    merge(core, instrument, OLD)
    with core.engine.connect() as other, other.begin():
        other.execute(sa.text("SELECT FROM candles_1m FOR UPDATE"))
        assert core.closing.run() == 0, "it is locked, and passed over"
    assert core.closing.look.old_ms == OLD
    assert core.closing.run() == 1
    core.closing.run()
    assert core.closing.look.old_ms is None


def test_an_import_is_looked_at_from_its_start(core: Platform, instrument: int) -> None:
    core.closing.run()
    connect(core, instrument, kind="import", since_ms=OLD)
    merge(core, instrument, OLD)
    assert core.closing.run() == 1
