"""Holes nobody reported: a feed that stands still, minutes that are missing, sessions without a bar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.instruments import Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.domain.trades import Mark, TradeBatch
from app.errors import UnknownInstrument
from app.storage import catalog, figures, holes, quality, sessions
from tests.integration.test_verification import T0, Core, _core, official

HOUR_MS = 60 * MINUTE_MS


def _alone(core: Core) -> Core:
    """Only this instrument is active: the seeded ones have no bars here."""
    with core.platform.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE sessions"))
        for item in catalog.instruments(connection):
            catalog.set_active(connection, item.id, item.id == core.instrument)
    return core


@pytest.fixture
def binance(settings: Settings, redis_client: redis.Redis) -> Iterator[Core]:
    core = _alone(_core(settings.model_copy(update={"outage_s": 30.0}), "binance", "BBB/USDT"))
    yield core
    core.platform.engine.dispose()


@pytest.fixture
def alpaca(settings: Settings, redis_client: redis.Redis) -> Iterator[Core]:
    core = _alone(_core(settings.model_copy(update={"outage_s": 30.0}), "alpaca", "YYY"))
    with core.platform.engine.begin() as connection:
        day = [Session(T0 + d * DAY_MS, T0 + d * DAY_MS + HOUR_MS, T0 + d * DAY_MS + 2 * HOUR_MS) for d in range(3)]
        sessions.put(connection, "XNYS", day)
    yield core
    core.platform.engine.dispose()


def open_holes(core: Core) -> list[tuple[int, int, str]]:
    with core.platform.engine.begin() as connection:
        found = holes.open_holes(connection, due_only=False)
    return sorted(((h.lo_ms - T0) // MINUTE_MS, (h.hi_ms - T0) // MINUTE_MS, h.cause) for h in found)


def connect(core: Core, second: int) -> None:
    """Another run of Alpaca's begins."""
    since_us = T0 * 1000 + second * 1_000_000
    mark = Mark(8, 1, since_us, "alpaca", since_us=since_us, subscribed=((core.instrument, since_us),))
    core.platform.ingest.apply(TradeBatch.of((), mark=mark))


def stand_still(core: Core) -> None:
    core.sql("UPDATE feeds SET progress = now() - interval '1 minute' RETURNING 1")


def end_the_feed(core: Core) -> None:
    """One print came in the session, its minute is verified, and the connection is over."""
    core.feed(core.trade(3605, 1), upto_s=3700, n=1, exchange="alpaca")
    core.clock.second = 4000
    core.shelf.bars = [official(core, 60, 1.0, 1).bar()]
    core.repair()
    core.sql("UPDATE feeds SET ended = true RETURNING 1")


def test_a_feed_that_stands_still_is_a_hole_that_grows_and_heals_from_history(binance: Core) -> None:
    binance.feed(binance.trade(5, 1), upto_s=62, n=1)
    binance.shelf.bars = [official(binance, 0, 1.0, 1, ids=(1, 1)).bar()]
    binance.repair()
    binance.follow()
    binance.clock.second = 240
    assert binance.platform.search.outages() == 0, "it moved a moment ago"
    stand_still(binance)
    assert binance.platform.search.outages() == 1
    assert open_holes(binance) == [(1, 3, "feed down")]
    binance.clock.second = 362
    binance.platform.search.outages()
    assert open_holes(binance) == [(1, 6, "feed down")]
    binance.shelf.bars += [official(binance, m, 1.0 + m, 2, ids=(2 * m, 2 * m + 1)).bar() for m in range(1, 6)]
    binance.repair()
    assert open_holes(binance) == []
    assert {m: bar.state for m, bar in binance.stored().items()} == dict.fromkeys(range(6), State.VERIFIED)
    assert binance.stored("5m")[0].state is State.VERIFIED
    binance.clock.second = 482
    binance.platform.search.outages()
    assert open_holes(binance) == [(6, 8, "feed down")], "what was repaired is not in doubt again"


def test_a_closed_market_is_no_outage(alpaca: Core) -> None:
    alpaca.feed(alpaca.trade(3605, 1), upto_s=7205, n=1, exchange="alpaca")
    alpaca.shelf.bars = [official(alpaca, 60, 1.0, 1).bar()]
    alpaca.clock.second = 7300
    alpaca.repair()
    alpaca.follow()
    assert open_holes(alpaca) == []
    stand_still(alpaca)
    alpaca.clock.second = 80_000
    assert alpaca.platform.search.outages() == 0, "the market closed at 02:00"
    alpaca.clock.second = 86_400 + 3600 + 600
    alpaca.platform.search.outages()
    assert open_holes(alpaca) == [(1500, 1509, "feed down")], "it opened at 01:00"


def test_the_hole_of_a_connection_is_cut_to_the_sessions(alpaca: Core) -> None:
    end_the_feed(alpaca)
    connect(alpaca, 86_400 + 3600 + 330)
    assert [hole[:2] for hole in open_holes(alpaca)] == [(61, 120), (1500, 1506)]


def test_without_its_key_an_exchange_is_not_searched_and_with_it_all_comes_back(alpaca: Core) -> None:
    end_the_feed(alpaca)
    stand_still(alpaca)
    keyless = replace(alpaca.platform.search, skip={"alpaca"})
    alpaca.clock.second = 2 * 86_400
    assert (keyless.outages(), keyless.scan(), open_holes(alpaca)) == (0, 0, [])
    alpaca.clock.second = 2 * 86_400 + 4000
    connect(alpaca, 2 * 86_400 + 3600 + 30)
    alpaca.shelf.bars += [official(alpaca, minute, 2.0, 1).bar() for minute in (70, 1530)]
    alpaca.clock.second = 2 * 86_400 + 5000
    alpaca.repair()
    assert open_holes(alpaca) == []
    assert {60, 70, 1530} <= alpaca.stored().keys()


def test_who_has_no_key_is_known_where_the_search_is_made(settings: Settings) -> None:
    live = Platform(settings.model_copy(update={"market": "live"}), "tests")
    assert (set(live.search.skip), set(Platform(settings, "tests").search.skip)) == ({"alpaca"}, set())


def test_holes_that_nobody_can_fill_do_not_count_until_somebody_can(alpaca: Core) -> None:
    with alpaca.platform.engine.begin() as connection:
        gone = catalog.add(connection, "yahoo", "GONE.IS").id
        for instrument in (alpaca.instrument, gone):
            holes.record(connection, instrument, T0, T0 + HOUR_MS, "feed down")

    def counted(*skip: str) -> tuple[int, list[str], set[str]]:
        with alpaca.platform.engine.begin() as connection:
            symbols = [row["symbol"] for row in quality.holes(connection, open_only=True, skip=skip)]
            count, _ = quality.waiting_holes(connection, late_s=0, skip=skip)
            return count, symbols, set(figures.open_holes(connection))

    assert counted() == (2, ["GONE.IS", "YYY"], {"alpaca", "yahoo"})
    assert counted("alpaca") == (1, ["GONE.IS"], {"alpaca", "yahoo"}), "the metrics leave it out by themselves"
    with alpaca.platform.engine.begin() as connection:
        catalog.set_active(connection, gone, False)
    assert counted("alpaca") == (0, [], {"alpaca"})
    with alpaca.platform.engine.begin() as connection:
        catalog.add(connection, "yahoo", "GONE.IS")
        assert len(quality.holes(connection, open_only=True)) == 2, "none of them is forgotten"
    assert counted() == (2, ["GONE.IS", "YYY"], {"alpaca", "yahoo"})


def test_the_holes_of_a_symbol_its_exchange_does_not_know_cost_one_request_a_turn(binance: Core) -> None:
    with binance.platform.engine.begin() as connection:
        gone = catalog.add(connection, "binance", "GONE/USDT", active=False).id
        for minute in (0, 2, 4):
            lo_ms = T0 + minute * MINUTE_MS
            holes.record(connection, gone, lo_ms, lo_ms + MINUTE_MS, "missing trades")
        holes.record(connection, binance.instrument, T0, T0 + MINUTE_MS, "connected")
    listed = binance.shelf.klines

    def klines(instrument: Instrument, *given: Any) -> list[Bar]:
        found = listed(instrument, *given)
        if instrument.id == gone:
            raise UnknownInstrument("Binance does not know GONEUSDT: Invalid symbol.")
        return found

    binance.shelf.klines = klines  # type: ignore[method-assign]
    binance.shelf.bars = [official(binance, 0, 1.0, 1).bar()]
    attempts = f"SELECT attempts FROM holes WHERE instrument_id = {gone} ORDER BY lo"
    assert binance.platform.repair.run() == 1
    assert (len(binance.shelf.asked), binance.sql(attempts)) == (2, [(1,), (0,), (0,)])
    for _ in range(2):
        binance.platform.repair.run()
    assert binance.sql(attempts) == [(1,), (1,), (1,)], "each has its turn, and none is given up"
    assert binance.sql("SELECT count(*) FROM holes WHERE repaired IS NULL") == [(3,)]


def test_a_doubt_about_closed_hours_goes_without_asking(alpaca: Core) -> None:
    with alpaca.platform.engine.begin() as connection:
        for lo, hi in ((200, 300), (119, 121)):
            holes.record(connection, alpaca.instrument, T0 + lo * MINUTE_MS, T0 + hi * MINUTE_MS, "connected")
    alpaca.clock.second = 40_000
    alpaca.repair()
    assert open_holes(alpaca) == []
    assert alpaca.shelf.asked == [(T0 + 119 * MINUTE_MS, T0 + 121 * MINUTE_MS)]


def test_the_scan_finds_minutes_nobody_reported(binance: Core) -> None:
    binance.feed(*(binance.trade(60 * m + 5, m + 1) for m in range(9)), upto_s=600, n=1)
    binance.shelf.bars = [official(binance, 0, 1.0, 1, ids=(1, 1)).bar()]
    binance.repair()
    binance.follow()
    gone = f"time >= to_timestamp({T0 // 1000 + 240}) AND time < to_timestamp({T0 // 1000 + 360})"
    binance.sql(f"DELETE FROM candles_1m WHERE {gone} RETURNING 1")
    binance.clock.second = 1000
    assert binance.platform.search.scan() == 1
    assert open_holes(binance) == [(4, 6, "missing bars")]
    assert binance.platform.search.scan() == 0
    binance.shelf.bars += [official(binance, m, 7.0, 1).bar() for m in (4, 5)]
    binance.repair()
    assert binance.stored()[4].close == 7.0
    binance.sql(f"DELETE FROM candles_1m WHERE {gone} RETURNING 1")
    assert binance.platform.search.scan() == 0, "the exchange was asked today: it has nothing there"


def test_the_scan_asks_for_sessions_without_any_bar(alpaca: Core) -> None:
    with alpaca.platform.engine.begin() as connection:
        holes.cover(connection, alpaca.instrument, T0, None)
    alpaca.clock.second = 86_400 + 12 * 3600
    assert alpaca.platform.search.scan() == 2
    assert open_holes(alpaca) == [(60, 120, "missing bars"), (1500, 1560, "missing bars")]
    alpaca.repair()
    assert open_holes(alpaca) == []
    assert alpaca.platform.search.scan() == 0


def test_a_connection_that_took_over_from_a_living_one_leaves_no_doubt(binance: Core) -> None:
    def say(run: int, n: int, upto_s: float, *, since_s: float, over: bool = False) -> None:
        since_us = T0 * 1000 + int(since_s * 1_000_000)
        subscribed = ((binance.instrument, since_us),) if n == 1 else None
        upto_us = T0 * 1000 + int(upto_s * 1_000_000)
        mark = Mark(run, n, upto_us, "binance", since_us=since_us, subscribed=subscribed, over=over)
        binance.platform.ingest.apply(TradeBatch.of([binance.trade(upto_s - 1, int(upto_s))], mark=mark))

    say(1, 1, 20, since_s=0)
    binance.shelf.bars = [official(binance, m, 1.0, 1).bar() for m in range(9)]
    binance.repair()
    say(1, 2, 150, since_s=0)
    say(1, 3, 200, since_s=0)
    say(2, 1, 203, since_s=201)
    assert open_holes(binance) == [(2, 4, "connected")]
    say(1, 4, 202, since_s=0, over=True)
    binance.platform.closing.run()
    binance.shelf.asked.clear()
    binance.platform.repair.run()
    assert (open_holes(binance), binance.shelf.asked) == ([], []), "nothing had to be asked"
    say(3, 1, 330, since_s=310)
    binance.platform.closing.run()
    binance.platform.repair.run()
    assert binance.shelf.asked != [], "run 2 had heard nothing up to then"


def test_a_hole_older_than_its_source_knows_is_given_up(settings: Settings, redis_client: redis.Redis) -> None:
    core = _alone(_core(settings, "yahoo", "UUU.IS"))
    core.clock.second = 40 * 86_400
    with core.platform.engine.begin() as connection:
        holes.record(connection, core.instrument, T0, T0 + HOUR_MS, "not polled")
    assert core.platform.repair.run() == 1
    assert (open_holes(core), core.shelf.asked) == ([], [])
    assert core.sql("SELECT error FROM holes") == [("older than anything the source has",)]
    assert core.counters()["holes_out_of_reach"] == 1
    core.platform.engine.dispose()
