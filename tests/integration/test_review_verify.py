"""Attacks on verification, repair and search: words out of order, races, starvation, lock order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa

from app.cache import keys
from app.domain.bars import Bar, State
from app.domain.history import CANCELLED, CORRECTED
from app.domain.official import Doubt, OfficialBar
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.storage import catalog, holes, ledger
from app.storage import official as official_store
from tests.factories import settle
from tests.integration.test_verification import T0, Core, alpaca, binance, official

__all__ = ["alpaca", "binance"]


def proxied(module: Any, **changes: Callable[..., Any]) -> Any:
    names = {name: getattr(module, name) for name in dir(module) if not name.startswith("__")}
    return SimpleNamespace(**{**names, **changes})


def prints(core: Core, *minutes: int) -> list[Any]:
    return [core.trade(60 * m + 5, m + 1)._replace(taker_buy=False) for m in minutes]


def quiet(core: Core) -> None:
    """No hole, no doubt of the run's beginning."""
    core.sql("UPDATE holes SET repaired = now() RETURNING 1")


def first_word(core: Core) -> OfficialBar:
    """What the exchange says of a minute of which a print came, said once and not compared yet."""
    core.feed(*prints(core, 1), upto_s=130, n=1, exchange="alpaca")
    quiet(core)
    first = official(core, 1, 1.0, 1)
    core.say(first, exchange="alpaca")
    return first


class TestWordsOutOfOrder:
    def test_a_first_word_delivered_again_does_not_undo_a_newer_one(self, alpaca: Core) -> None:
        first = first_word(alpaca)
        alpaca.follow()
        alpaca.say(first._replace(close=1.5, trade_count=2, revised=True), exchange="alpaca")
        alpaca.follow()
        assert alpaca.stored()[1].close == 1.5
        alpaca.say(first, exchange="alpaca")  # the worker was killed before it acknowledged
        alpaca.follow()
        assert alpaca.stored()[1].close == 1.5

    def test_a_newer_word_that_comes_while_the_first_is_compared_is_not_lost(self, alpaca: Core) -> None:
        first = first_word(alpaca)
        alpaca.platform.closing.run()
        verify = alpaca.platform.verify
        threads: list[threading.Thread] = []

        def get(connection: sa.Connection, keys: Any) -> Any:
            found = official_store.get(connection, keys)
            if keys and not threads:
                newer = first._replace(close=1.5, trade_count=2, revised=True)
                threads.append(threading.Thread(target=alpaca.say, args=(newer,), kwargs={"exchange": "alpaca"}))
                threads[0].start()
                threads[0].join(0.5)  # with a lock on the word it waits for us
            return found

        replace(verify, official=proxied(official_store, get=get)).run()
        threads[0].join(5)
        alpaca.follow()
        assert alpaca.stored()[1].close == 1.5

    def test_history_asked_before_a_newer_word_does_not_undo_it(self, alpaca: Core) -> None:
        first = first_word(alpaca)
        alpaca.follow()
        alpaca.say(doubts=[Doubt(alpaca.instrument, T0 + MINUTE_MS, T0 + 2 * MINUTE_MS, CORRECTED)], exchange="alpaca")

        def slow(*args: object) -> list[Bar]:
            alpaca.say(first._replace(close=1.5, trade_count=2, revised=True), exchange="alpaca")
            alpaca.follow()
            return [first.bar()]  # what the exchange had when it was asked

        alpaca.shelf.klines = slow  # type: ignore[method-assign,assignment]
        alpaca.platform.repair.run()
        alpaca.follow()
        assert alpaca.stored()[1].close == 1.5

    def test_a_second_cancel_while_history_is_asked_has_it_asked_again(self, alpaca: Core) -> None:
        """What was on its way knew the first one only, and closed the hole of both."""
        alpaca.feed(*prints(alpaca, 1), upto_s=130, n=1, exchange="alpaca")
        quiet(alpaca)
        alpaca.say(official(alpaca, 1, 1.0, 3), exchange="alpaca")
        alpaca.follow()
        cancel = Doubt(alpaca.instrument, T0 + MINUTE_MS, T0 + 2 * MINUTE_MS, CANCELLED)
        alpaca.say(doubts=[cancel], exchange="alpaca")
        counts = [2, 1]  # of trades, after each cancel

        def slow(*args: object) -> list[Bar]:
            if len(counts) == 2:
                alpaca.say(doubts=[cancel, cancel], exchange="alpaca")
            return [official(alpaca, 1, 1.0, counts.pop(0)).bar()]

        alpaca.shelf.klines = slow  # type: ignore[method-assign,assignment]
        assert (alpaca.platform.repair.run(), alpaca.stored()[1].trade_count) == (1, 2)
        assert (alpaca.platform.repair.run(), alpaca.stored()[1].trade_count) == (1, 1)
        assert (alpaca.platform.repair.run(), counts) == (0, [])

    def test_an_audit_that_asked_before_a_newer_word_does_not_undo_it(self, alpaca: Core) -> None:
        first = first_word(alpaca)
        alpaca.follow()

        def slow(*args: object) -> list[Bar]:
            alpaca.say(first._replace(close=1.5, trade_count=2, revised=True), exchange="alpaca")
            alpaca.follow()
            return [first.bar()]

        alpaca.shelf.klines = slow  # type: ignore[method-assign,assignment]
        apple = alpaca.platform.catalogue({alpaca.instrument})[alpaca.instrument]
        assert len(list(alpaca.platform.audit.pages(apple, Timeframe.M1, T0, T0 + 5 * MINUTE_MS, repair=True))) == 1
        assert alpaca.stored()[1].close == 1.5


class TestBesideThemselves:
    def test_two_sweeps_note_a_difference_once(self, binance: Core) -> None:
        binance.feed(binance.trade(5, 1), upto_s=90, n=1)
        quiet(binance)
        binance.follow()
        binance.sql("UPDATE candles_1m SET updated = now() - interval '1 hour' RETURNING 1")
        both = threading.Barrier(2)
        verify = binance.platform.verify

        from app.storage import candles

        def read_many(*args: Any, **kwargs: Any) -> list[Bar]:
            found = candles.read_many(*args, **kwargs)
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return found

        sweep = replace(binance.platform.sweep, verify=replace(verify, candles=proxied(candles, read_many=read_many)))
        binance.shelf.bars = [official(binance, 0, 4.0, 2).bar()]
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(sweep.run) for _ in range(2)]:
                done.result()
        assert binance.differences() == [(0, "history", binance.differences()[0][2])]

    def test_two_passes_note_a_longer_bar_once(self, binance: Core) -> None:
        binance.feed(*(binance.trade(60 * m + 5, m + 1, 2.0) for m in range(5)), upto_s=320, n=1)
        quiet(binance)
        binance.say(*(official(binance, m, 2.0, 1, ids=(m + 1, m + 1)) for m in range(5)))
        binance.follow()
        binance.say(official(binance, 0, 2.0, 4, timeframe=Timeframe.M5))
        both = threading.Barrier(2)

        def rollups(*args: Any, **kwargs: Any) -> Any:
            found = official_store.rollups(*args, **kwargs)
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return found

        verify = replace(binance.platform.verify, official=proxied(official_store, rollups=rollups))
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(verify._check_rollups) for _ in range(2)]:
                done.result()
        assert len(binance.differences()) == 1

    def test_a_late_trade_during_historys_word_is_not_called_verified(self, alpaca: Core) -> None:
        alpaca.feed(*prints(alpaca, 1), upto_s=130, n=1, exchange="alpaca")
        quiet(alpaca)
        alpaca.follow()
        late = threading.Event()

        from app.storage import candles

        def read_many(*args: Any, **kwargs: Any) -> list[Bar]:
            found = candles.read_many(*args, **kwargs)
            if not late.is_set():
                late.set()
                other.start()
                other.join(0.5)
            return found

        trade = alpaca.trade(66, 99, 7.0)._replace(taker_buy=False)
        other = threading.Thread(target=lambda: alpaca.feed(trade, upto_s=131, n=2, exchange="alpaca"))
        verify = replace(alpaca.platform.verify, candles=proxied(candles, read_many=read_many))
        with alpaca.platform.engine.begin() as connection:
            instrument = alpaca.platform.catalogue({alpaca.instrument})[alpaca.instrument]
            bars = [official(alpaca, 1, 1.0, 1).bar()]
            verify.take(connection, instrument, bars, lo_ms=T0, end_ms=T0 + 3 * MINUTE_MS, now_ms=T0 + 600_000)
        other.join(60)
        bar = alpaca.stored()[1]
        assert (bar.state, bar.trade_count) in {(State.VERIFIED, 1), (State.CLOSED, 2)}, (
            "verified with a trade unheard of"
        )

    def test_what_history_takes_back_has_charts_read_anew(self, alpaca: Core, redis_client: redis.Redis) -> None:
        """However short the stretch: no bar can be told that is not there."""
        alpaca.feed(*prints(alpaca, 7, 9), upto_s=620, n=1, exchange="alpaca")
        quiet(alpaca)
        alpaca.follow()
        asked = {"lo_ms": T0 + 9 * MINUTE_MS, "end_ms": T0 + 10 * MINUTE_MS}
        with alpaca.platform.engine.begin() as connection:
            instrument = alpaca.platform.catalogue({alpaca.instrument})[alpaca.instrument]
            assert alpaca.platform.verify.take(connection, instrument, [], **asked, now_ms=T0 + 86_400_000) == 1
        assert set(alpaca.stored()) == {7}
        with redis_client.pubsub() as heard:
            heard.subscribe(keys.CHART_UPDATES)
            settle(alpaca.platform)
            said = []
            while message := heard.get_message(timeout=0.5):
                said += [orjson.loads(message["data"])] if message["type"] == "message" else []
        assert said and all(one["reload"] and one["id"] == alpaca.instrument for one in said)

    def test_repair_takes_ledger_rows_before_bars(self, binance: Core) -> None:
        """A late trade holds its stream's row and waits for the bar that repair holds, which waits for the row."""
        binance.feed(binance.trade(5, 1), binance.trade(65, 5), upto_s=130, n=1)
        quiet(binance)
        binance.follow()
        with binance.platform.engine.begin() as connection:
            holes.record(connection, binance.instrument, T0, T0 + 2 * MINUTE_MS, "missing trades", ids=(2, 4))
        binance.shelf.bars = [official(binance, 0, 1.0, 4).bar(), official(binance, 1, 1.0, 1).bar()]
        engine = binance.platform.engine
        taken, go = threading.Event(), threading.Event()
        failures: list[str] = []

        def ingest() -> None:
            try:
                with engine.begin() as connection:
                    ledger.add(connection, binance.instrument, 3, 4)
                    taken.set()
                    go.wait(3)
                    connection.execute(
                        sa.text("SELECT 1 FROM candles_1m WHERE instrument_id = :i ORDER BY time FOR UPDATE"),
                        {"i": binance.instrument},
                    )
            except sa.exc.OperationalError as error:
                failures.append(str(error.orig.pgcode))

        def add(*args: Any) -> None:
            go.set()
            time.sleep(0.3)
            ledger.add(*args)

        other = threading.Thread(target=ingest)
        other.start()
        taken.wait(60)
        repair = replace(binance.platform.repair, ledger=proxied(ledger, add=add))
        try:
            repair.run()
        except sa.exc.OperationalError as error:
            failures.append(str(error.orig.pgcode))
        other.join(60)
        assert failures == []
        assert binance.counters().get("unequal_bars", 0) == len(binance.differences())


class TestStarvation:
    def test_minutes_history_does_not_have_do_not_starve_the_rest(self, binance: Core) -> None:
        """Binance has no klines of a delisted symbol; our flat bars of it stay unverified and come first each time."""
        with binance.platform.engine.begin() as connection:
            ids = [catalog.add(connection, "binance", f"S{k}/USDT").id for k in range(9)]
            last = catalog.add(connection, "binance", "LAST/USDT").id
        for i in [*ids, last]:
            core = replace(binance, instrument=i)
            core.feed(core.trade(60 * (i == last) + 5, 1), upto_s=190, n=1, run=100 + i)
        quiet(binance)
        binance.follow()
        binance.sql("UPDATE candles_1m SET updated = now() - interval '1 hour' RETURNING 1")
        good = replace(binance, instrument=last)
        binance.shelf.bars = [official(good, 1, 1.0, 1).bar(), official(good, 2, 1.0, 0).bar()]
        for _ in range(20):
            binance.platform.sweep.run()
        assert good.stored()[1].state is State.VERIFIED

    def test_ids_on_their_way_are_not_missing(self, binance: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two workers commit in any order: the later batch may be in before the earlier one."""
        repair = binance.platform.repair
        binance.feed(binance.trade(5, 1), upto_s=6, n=1)
        binance.feed(binance.trade(65, 5), upto_s=66, n=3)
        quiet(binance)
        assert repair.find_gaps() == 0
        binance.feed(*(binance.trade(30, k) for k in (2, 3, 4)), upto_s=31, n=2)
        monkeypatch.setattr("app.services.repair.LOOK_AGAIN_S", 0.0)
        assert repair.find_gaps() == 0
        binance.feed(binance.trade(70, 9), upto_s=71, n=4)
        assert repair.find_gaps() == 1
        assert binance.counters()["missing_trades"] == 3

    def test_gaps_nobody_can_fill_do_not_hide_later_ones(self, binance: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.services.repair.LOOK_AGAIN_S", 0.0)  # nothing is on its way here
        with binance.platform.engine.begin() as connection:
            later = catalog.add(connection, "binance", "LATER/USDT").id
            for k in range(1100):  # a file of trades with gaps, outside of what is claimed
                ledger.add(connection, binance.instrument, 10 * k, 10 * k + 5)
        core = replace(binance, instrument=later)
        core.feed(core.trade(5, 1), core.trade(65, 5), upto_s=130, n=1, run=99)
        quiet(core)
        core.follow()
        for _ in range(5):
            core.platform.repair.find_gaps()
        query = f"SELECT cause FROM holes WHERE instrument_id = {later} AND repaired IS NULL"
        assert core.sql(query) == [("missing trades",)]

    def test_a_turn_of_the_sweep_ends_in_time(self, alpaca: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        from app.services import sweep as module

        monkeypatch.setattr(module, "RUN_S", 0.5)
        engine = alpaca.platform.engine
        with engine.begin() as connection:
            ids = [catalog.add(connection, "alpaca", f"Q{k}").id for k in range(8)]
        for i in ids:
            core = replace(alpaca, instrument=i)
            core.feed(*prints(core, 1), upto_s=1003, n=1, exchange="alpaca", run=200 + i)
        quiet(alpaca)
        alpaca.follow()
        alpaca.sql("UPDATE candles_1m SET updated = now() - interval '1 hour' RETURNING 1")
        alpaca.sql(f"UPDATE candles_1m SET state = 2 WHERE instrument_id > {ids[3]} RETURNING 1")
        alpaca.clock.second = 1100

        def slow(*args: object) -> list[Bar]:
            alpaca.shelf.asked.append((0, 0))
            time.sleep(0.25)
            return []

        alpaca.shelf.klines = slow  # type: ignore[method-assign,assignment]
        alpaca.shelf.asked.clear()
        alpaca.platform.sweep.run()
        assert 1 <= len(alpaca.shelf.asked) <= 3, "its time and the answer under way, not twice as much"


class TestLongerBars:
    def test_a_longer_bar_waits_for_a_minute_that_is_still_open(self, alpaca: Core) -> None:
        alpaca.feed(*prints(alpaca, 0, 1, 2), upto_s=302.5, n=1, exchange="alpaca")
        quiet(alpaca)
        with alpaca.platform.engine.connect() as other, other.begin():
            # a batch of late prints has the bar while the pass closes the rest
            other.execute(sa.text(f"SELECT 1 FROM candles_1m WHERE time = to_timestamp({T0 // 1000 + 120}) FOR UPDATE"))
            alpaca.platform.closing.run()
            while alpaca.platform.settle.run():
                continue
        assert alpaca.stored()[2].state is State.OPEN
        assert 0 not in alpaca.stored("5m") or alpaca.stored("5m")[0].state is State.OPEN

    def test_a_word_about_a_minute_that_is_not_claimed_leaves_no_bar(self, alpaca: Core) -> None:
        alpaca.feed(*prints(alpaca, 1), upto_s=310, n=1, exchange="alpaca")
        quiet(alpaca)
        alpaca.follow()
        outside = official(alpaca, -700, 5.0, 3, revised=True)
        alpaca.say(outside, exchange="alpaca")
        alpaca.sql("UPDATE official_1m SET received = now() - interval '10 minutes' RETURNING 1")
        alpaca.follow()
        assert set(alpaca.stored()) == {1}
        assert -700 not in alpaca.stored("5m"), "a bar of five minutes made of one, open for ever"

    def test_a_correction_of_a_minute_that_is_not_claimed_leaves_no_bar(self, alpaca: Core) -> None:
        alpaca.feed(*prints(alpaca, 1), upto_s=310, n=1, exchange="alpaca")
        quiet(alpaca)
        alpaca.follow()
        lo = T0 - 700 * MINUTE_MS
        alpaca.say(doubts=[Doubt(alpaca.instrument, lo, lo + MINUTE_MS, CORRECTED)], exchange="alpaca")
        alpaca.shelf.bars = [official(alpaca, -700, 5.0, 3).bar(), official(alpaca, 1, 1.0, 1).bar()]
        alpaca.repair()
        assert set(alpaca.stored()) == {1}
        assert -700 not in alpaca.stored("5m")
