"""What corrects old bars works on compressed ones: hypertables and a plain twin go the same way and hold the same.

Each test takes one kind of correction through the services, compares every row of bars and indicators with the twin's,
lets the policies compress again, and compares once more. The tests follow each other on the same two databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.config import load_settings
from app.domain.bars import Bar, Merged, Origin, PartialBar, State
from app.domain.outbox import Due
from app.domain.timeframes import Timeframe
from app.storage import bulk, candles, closing, holes, migrate, official
from app.storage.engine import make_engine
from tests.timescale.twins import DENSE, HALT, NOW, SHORT, STOCK, T0, Both, M, World, compress, exchange, values, word

pytestmark = [pytest.mark.timescale, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def plain(database_url: str) -> Iterator[World]:
    """The twin."""
    engine = make_engine(load_settings(database_url=database_url, _env_file=None), process="tests")
    world = World(engine)
    world.fill()
    yield world
    engine.dispose()


@pytest.fixture(scope="module")
def hyper(timescale_url: str, timescale_engine: sa.Engine) -> World:
    """The hypertables, all their chunks compressed."""
    with timescale_engine.begin() as connection:  # in WebAssembly it is loaded only with this
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    timescale_engine.dispose()
    migrate.upgrade(timescale_url)
    with timescale_engine.begin() as connection:
        connection.execute(sa.text(HALT))
    world = World(timescale_engine)
    world.fill()
    compress(world)
    return world


@pytest.fixture
def both(hyper: World, plain: World) -> Both:
    """The two databases as the test before left them."""
    return Both(hyper, plain)


def test_the_start_is_worth_it(both: Both) -> None:
    """Two chunks of minutes, flat bars, all states, all roll-ups, indicators; the twins are equal."""
    both.compare()
    bars = both.plain.bars("BTC/USDT", 0, DENSE)
    assert {bar.state for bar in bars} == {State.OPEN, State.CLOSED, State.VERIFIED}
    assert sum(bar.origin is Origin.FLAT for bar in bars) > 50
    assert all(both.plain.rows().values())
    with both.hyper.engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM show_chunks('candles_1m')")) == 2


def test_late_trades(both: Both) -> None:
    """A minute that is open, one closed, one verified, one flat, and one in which nothing stood."""
    closed = both.plain.bars("BTC/USDT", 700, 703)[1]
    flat = next(bar for bar in both.plain.bars("BTC/USDT", 800, DENSE) if bar.origin is Origin.FLAT)
    flat_minute = (flat.time_ms - T0) // M

    def act(world: World) -> Merged:
        with world.marked() as (connection, keys):
            minutes = ((100, 1), (701, 1), (flat_minute, 1), (DENSE - 1, 1), (DENSE + 5, 1))
            merged = candles.merge(connection, [world.part("BTC/USDT", m, 150.0, 900_000 + m) for m, _ in minutes])
            keys += [(bar.instrument_id, bar.time_ms) for bar in merged.bars if bar.state is State.CLOSED]
        return merged

    merged = both.do(act)
    assert [key[1] for key in merged.verified] == [T0 + 100 * M]
    by_time = {(bar.time_ms - T0) // M: bar for bar in merged.bars}
    assert by_time[701].revision == closed.revision + 1
    assert by_time[701].trade_count == closed.trade_count + 2
    assert (by_time[flat_minute].trade_count, by_time[flat_minute].origin) == (2, Origin.TRADES)
    assert by_time[DENSE - 1].state is by_time[DENSE + 5].state is State.OPEN
    for tf in (Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4):
        assert any(bar.revision and bar.high == 150.5 for bar in both.hyper.bars("BTC/USDT", 0, DENSE, tf)), tf
    assert both.hyper.bars("BTC/USDT", 0, DENSE, Timeframe.D1)[0].high == 150.5  # still open: its revision stays


def test_flat_bars_follow_the_close_before_them(both: Both) -> None:
    run = both.plain.bars("BTC/USDT", 400, DENSE)
    place = next(i for i, bar in enumerate(run) if run[i + 1].origin is Origin.FLAT and bar.origin is Origin.TRADES)
    before, flat = run[place], run[place + 1]

    def act(world: World) -> list[Bar]:
        with world.marked() as (connection, keys):
            late = world.part("BTC/USDT", (before.time_ms - T0) // M, 90.0, before.close_seq + 1)
            late = late._replace(close_time=before.close_time, close_seq=before.close_seq + 1)
            keys += [(bar.instrument_id, bar.time_ms) for bar in candles.merge(connection, [late]).bars]
        return world.bars("BTC/USDT", (flat.time_ms - T0) // M, (flat.time_ms - T0) // M + 1)

    (mended,) = both.do(act)
    assert (mended.close, mended.revision) == (90.25, flat.revision + 1)


@pytest.mark.parametrize("count", [10, 60])
def test_the_exchanges_bars_replace(both: Both, count: int) -> None:
    """A few of them, and as many as go by COPY where the server has it, each over bars and where nothing stood."""
    lo = 480 if count == 10 else 120

    def act(world: World) -> list[int]:
        with world.marked() as (connection, keys):
            ours = world.bars_in(connection, "BTC/USDT", lo, lo + count)
            replaced = bulk.replace(connection, [exchange(bar, close=bar.low) for bar in ours])
            first = SHORT + 300 + count
            new = [world.part("ETH/USDT", first + m, 50.0 + m, 0) for m in range(count)]
            added = bulk.replace(connection, [Bar(*part, state=State.VERIFIED, origin=Origin.EXCHANGE) for part in new])
            keys += sorted([*replaced, *added])
        return [(time_ms - T0) // M for _, time_ms in keys]

    changed = both.do(act)
    moved = [bar for bar in both.hyper.bars("BTC/USDT", lo, lo + count) if bar.revision]
    assert moved
    assert {bar.state for bar in both.hyper.bars("BTC/USDT", lo, lo + count)} == {State.VERIFIED}
    assert len(changed) > 1.5 * count


def test_history_agrees_differs_and_takes_back(both: Both) -> None:
    """History's word on an hour of BTC, and on a stock of which it does not list the last minute."""

    def act(world: World) -> tuple[int, int]:
        with world.engine.begin() as connection:
            ours = world.bars_in(connection, "BTC/USDT", 900, 960)
            theirs = [exchange(bar, high=bar.high + 1) if i == 7 else exchange(bar) for i, bar in enumerate(ours)]
            replaced = world.take(connection, "BTC/USDT", theirs, 900, 960)
        with world.engine.begin() as connection:
            ours = world.bars_in(connection, "AAPL", 0, STOCK)
            taken = world.take(connection, "AAPL", [exchange(bar) for bar in ours], 0, 240)
        world.derive()
        return replaced, taken

    assert both.do(act) == (1, 1)
    assert {bar.state for bar in both.hyper.bars("BTC/USDT", 900, 960)} == {State.VERIFIED}
    assert not both.hyper.bars("AAPL", STOCK, STOCK + 30)
    assert not both.hyper.bars("AAPL", STOCK + 15, STOCK + 30, Timeframe.M15), "of which nothing is left"


def test_the_streams_word_on_old_bars(both: Both) -> None:
    """It agrees with one bar, differs from another, and has one where nothing stands; a bar of today is among them."""

    def act(world: World) -> int:
        with world.engine.begin() as connection:
            agreed, unequal = world.bars_in(connection, "BTC/USDT", 1000, 1002)
            missing = Bar(*world.part("BTC/USDT", DENSE + 30, 101.0, 0))
            recent = Bar(*world.part("ETH/USDT", 30 * 1440, 55.0, 0))
            holes.cover(connection, agreed.instrument_id, T0, NOW)
            candles.merge(connection, [PartialBar(*values(recent))])
            words = [agreed, replace(unequal, close=unequal.low), missing, recent]
            official.put(connection, [word(bar) for bar in words])
            connection.execute(sa.text("UPDATE official_1m SET received = received - interval '10 minutes'"))
        done = world.verify.run()
        world.derive()
        return done

    assert both.do(act) == 5
    agreed, unequal = both.hyper.bars("BTC/USDT", 1000, 1002)
    assert (agreed.state, unequal.state) == (State.VERIFIED, State.VERIFIED)
    assert (unequal.close, unequal.revision) == (unequal.low, 1)
    assert both.hyper.bars("BTC/USDT", DENSE + 30, DENSE + 31)[0].origin is Origin.EXCHANGE


def test_open_minutes_that_were_compressed_close(both: Both) -> None:
    """Among them one that never had a price, which is dropped."""

    def act(world: World) -> tuple[int | None, int, int, int]:
        with world.engine.begin() as connection:
            ids = [world.id("BTC/USDT"), world.id("AAPL")]
            oldest = closing.oldest_open(connection, ids, from_ms=0)
            left = closing.open_left(connection, ids[0], T0, NOW)
            dropped = closing.drop_unpriced(connection, {ids[1]: NOW}, lo_ms=T0)
            closed = closing.close(connection, [Due(ids[0], 0, NOW, 0.0)], lo_ms=T0)
        world.derive()
        return oldest, left, dropped, closed

    assert both.do(act) == (T0 + (STOCK + 40) * M, 2, 1, 2)
    assert {bar.state for bar in both.hyper.bars("BTC/USDT", DENSE - 1, DENSE + 10)} == {State.CLOSED}


def test_locks_reach_what_is_compressed(both: Both) -> None:
    """They change nothing, and a trade on what they hold waits."""

    def act(world: World) -> list[Bar]:
        btc = world.id("BTC/USDT")
        with world.engine.begin() as connection:
            candles.lock(connection, btc, T0 + 340 * M, T0 + 380 * M)
            return candles.hold(connection, [(btc, T0 + 600 * M), (btc, T0 + 601 * M), (btc, T0 + 999_999 * M)])

    assert [bar.time_ms for bar in both.do(act)] == [T0 + 600 * M, T0 + 601 * M]


def test_days_are_doubted_and_derived_again(both: Both) -> None:
    """A stock's own day, compressed: minutes of it change, and it is asked for again."""

    def act(world: World) -> list[Bar]:
        day = replace(Bar(*world.part("AAPL", -720, 99.0, 0)), state=State.VERIFIED, origin=Origin.EXCHANGE)
        with world.engine.begin() as connection:
            candles.replace(connection, [day], tf=Timeframe.D1, flats=False)
        if world is both.hyper:
            compress(world)
        with world.marked() as (connection, keys):
            late = world.part("AAPL", 20, 120.0, 0)
            assert candles.merge(connection, [late]).verified  # history had its word: it is only marked again
            keys += [(late.instrument_id, late.time_ms)]
        return world.bars("AAPL", -720, 0, Timeframe.D1)

    (day,) = both.do(act)
    assert (day.state, day.origin, day.close) == (State.CLOSED, Origin.EXCHANGE, 99.25)
