"""The Binance streamer against the simulated market: nothing is lost, whatever happens to the connection."""

from __future__ import annotations

import time
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.domain.trades import Trade
from app.wire.binance_files import read_batches
from streamers.connection import KLINES, STREAMS_OF_SYMBOL, SYMBOLS
from tests.sandbox import start_sandbox
from tests.streaming import Collected, instrument, streaming

DAY = "XRPETH-aggTrades-2019-10-11.zip"
START_US = 1_570_752_000_000_000
HOUR_US = 3_600_000_000


def file_ids(path: Path, hours: int) -> set[int]:
    """The raw trade ids of the file's first hours."""
    found: set[int] = set()
    for batch in read_batches(path, 1, most=5000):
        rows = zip(batch.time_us.tolist(), batch.first.tolist(), batch.last.tolist(), strict=True)
        for time_us, first, last in rows:
            if time_us < START_US + hours * HOUR_US:
                found.update(range(first, last + 1))
    return found


def assert_marks(queue: Collected) -> None:
    """The law of marks: n without gaps from 1, upto never falls, only the last says over."""
    for marks in queue.runs().values():
        assert [mark.n for mark in marks] == list(range(1, len(marks) + 1))
        assert all(a.upto_us <= b.upto_us for a, b in pairwise(marks))
        assert [mark.over for mark in marks] == [False] * (len(marks) - 1) + [True]
        assert marks[0].subscribed is not None


def assert_claims(queue: Collected) -> None:
    """No batch brings a trade of a time that its run had claimed a second before."""
    claimed: dict[int, int] = {}
    for _, batch in queue.batches:
        assert batch.mark is not None
        before = claimed.get(batch.mark.run, 0)
        assert not len(batch) or int(batch.time_us.min()) >= before - 1_000_000
        claimed[batch.mark.run] = batch.mark.upto_us


async def test_every_trade_arrives_once_and_in_order(shared_data: Path) -> None:
    wanted = file_ids(shared_data / DAY, 2)
    with start_sandbox(replay=[shared_data / DAY], speed=1200, paused=True, end="2019-10-11T02:00") as market:
        async with streaming(market, "XRP/ETH") as live:
            await live.until(lambda: live.streamer.stats.runs == 1)
            market.start()
            await live.until(lambda: len(live.queue.trades) >= len(wanted))
            await live.until(lambda: live.queue.marks[-1].upto_us > START_US + 2 * HOUR_US)
            facts = live.streamer.facts()
    trades = live.queue.trades
    assert [trade.first for trade in trades] == sorted(wanted)
    assert all(trade.first == trade.last for trade in trades)
    assert_marks(live.queue)
    assert facts["feed"] == "connected" and facts["instruments"] == 1 and facts["reconnects"] == 0
    assert live.beats


async def test_faults_are_survived(shared_data: Path) -> None:
    wanted = file_ids(shared_data / DAY, 2)
    faults = "duplicate:probability=0.2,seed=3;reorder:probability=0.1,seed=4"
    with start_sandbox(
        replay=[shared_data / DAY], speed=1200, paused=True, end="2019-10-11T02:00", faults=faults
    ) as market:
        async with streaming(market, "XRP/ETH") as live:
            await live.until(lambda: live.streamer.stats.runs == 1)
            market.start()
            await live.until(lambda: live.queue.ids(1) == wanted)
    assert len(live.queue.trades) > len(wanted)  # duplicates go on: the ledger settles them
    assert_marks(live.queue)


async def test_a_disconnect_makes_a_new_run() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=100, history_hours=1) as market:
        async with streaming(market, "BTC/USDT") as live:
            await live.until(lambda: len(live.queue.trades) > 20 and len(live.queue.marks) > 4)
            market.fault("disconnect", after=10)
            await live.until(lambda: len(live.queue.runs()) == 2)
            await live.until(lambda: sum(len(marks) > 3 for marks in live.queue.runs().values()) == 2)
            first, second = list(live.queue.runs().values())
            assert first[-1].over
            assert second[0].since_us >= first[-1].upto_us - 1_000_000
            assert second[0].subscribed is not None and second[0].subscribed[0][0] == 1
            assert live.streamer.facts()["reconnects"] == 1
    assert_marks(live.queue)
    assert_claims(live.queue)


async def test_a_silent_connection_is_replaced_before_it_is_closed() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=100, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", stream_silence_s=3.0) as live:
            await live.until(lambda: len(live.queue.trades) > 20)
            before = max(live.queue.ids(1))
            market.fault("silence", after=1)
            await live.until(lambda: len(live.queue.runs()) == 2)
            await live.until(lambda: max(live.queue.ids(1)) > before + 150)
            assert live.streamer.stats.dropped["stream_silent"] == 1
    assert_marks(live.queue)


async def test_an_old_connection_is_followed_by_a_new_one_without_a_gap() -> None:
    with start_sandbox(symbols="BTC/USDT,ETH/USDT", rate=200, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", "ETH/USDT", stream_max_age_s=0.7) as live:
            await live.until(lambda: len(live.queue.runs()) >= 4)
            assert live.streamer.stats.reconnects == 0
    for one in (1, 2):
        ids = live.queue.ids(one)
        assert ids == set(range(min(ids), max(ids) + 1))
    assert_marks(live.queue)
    assert_claims(live.queue)


@pytest.mark.slow
async def test_a_server_that_ends_is_left_before_it_does_and_no_trade_is_lost() -> None:
    """Some thousand trades a second, the end announced twice: every trade of every minute, as the truth counts them."""
    names = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    with start_sandbox(symbols=",".join(names), rate=40, speed=60, history_hours=1) as market:
        async with streaming(market, *names) as live:
            await live.until(lambda: len(live.queue.trades) > 1000)
            for runs in (2, 3):
                ending = {connection.run.id for feed in live.streamer.feeds for connection in feed.live}
                market.fault("shutdown", duration_s=8)
                await live.until(lambda runs=runs: len(live.queue.runs()) == runs)
                await live.until(lambda ending=ending: all(live.queue.runs()[run][-1].over for run in ending))
                seen = len(live.queue.trades)
                await live.until(lambda seen=seen: len(live.queue.trades) > seen + 6000)
            # A quick machine is through before there are minutes enough to compare.
            await live.until(lambda: live.queue.trades[-1].time_us - live.queue.trades[0].time_us > 8 * 60_000_000)
            assert live.streamer.stats.reconnects == 0
            assert live.streamer.stats.dropped == {"server_shutdown": 2}
        for instrument_id, name in enumerate(names, 1):
            assert_whole(live.queue, instrument_id, market.truth(name))
    runs = list(live.queue.runs().values())
    for old, new in pairwise(runs):
        since_us = max(since_us for _, since_us in new[0].subscribed or ())
        assert since_us < old[-1].upto_us, "the old connection was heard until the new one was"
    assert_marks(live.queue)
    assert_claims(live.queue)


def assert_whole(queue: Collected, instrument_id: int, truth: list[dict[str, Any]]) -> None:
    """The instrument's ids have no gap, and each whole minute has as many as the truth says."""
    by_minute: dict[int, set[int]] = defaultdict(set)
    for trade in queue.trades:
        if trade.instrument_id == instrument_id:
            by_minute[trade.time_us // 60_000_000 * 60_000].add(trade.first)
    ids = set[int]().union(*by_minute.values())
    assert ids == set(range(min(ids), max(ids) + 1))
    whole = [bar for bar in truth if min(by_minute) < bar["time"] < max(by_minute)]
    assert len(whole) > 3
    assert [len(by_minute[bar["time"]]) for bar in whole] == [bar["trade_count"] for bar in whole]


async def test_the_exchange_s_own_bars_come_with_their_ids() -> None:
    """Each closed kline of four timeframes, once, equal to the truth; a quiet minute names no ids."""
    with start_sandbox(
        symbols="BTC/USDT,ADA/USDT", rate=0.05, speed=120, history_hours=2, start="2024-03-01T11:55"
    ) as market:
        async with streaming(market, "BTC/USDT", "ADA/USDT") as live:
            await live.until(lambda: {bar.timeframe for bar in live.queue.bars} >= {*KLINES})
            await live.until(lambda: any(not bar.trade_count for bar in live.queue.bars))
            facts = live.streamer.facts()
        names = {1: "BTC/USDT", 2: "ADA/USDT"}
        for bar in live.queue.bars:
            (true,) = market.truth(
                names[bar.instrument_id], bar.timeframe.value, start=bar.time_ms, end=bar.time_ms + 1
            )
            assert [str(price).removesuffix(".0") for price in bar[3:7]] == [
                true[name] for name in ("open", "high", "low", "close")
            ]
            sums = (bar.volume, bar.quote_volume, bar.taker_buy_volume)
            names_of_sums = ("volume", "quote_volume", "taker_buy_volume")
            assert sums == tuple(round(Decimal(true[name]), 8) for name in names_of_sums)
            ids = (bar.first_id, bar.last_id) if bar.trade_count else (-1, -1)
            assert (bar.trade_count, *ids) == (true["trade_count"], true["first_id"], true["last_id"])
            assert bar.trade_count or bar.first_id is bar.last_id is None
    assert len({bar[:3] for bar in live.queue.bars}) == len(live.queue.bars) > 10
    assert facts["klines"] > 0 and facts["official"] > 10
    assert_marks(live.queue)


async def test_klines_say_that_a_connection_lives_and_let_the_clock_go_on() -> None:
    """Where nobody trades the exchange's klines are its word: no connection is replaced, the claim keeps its second.

    Two days of history, for there are klines only where somebody has traded before.
    """
    with start_sandbox(symbols="BTC/USDT", rate=0.0001, history_hours=48) as market:
        async with streaming(market, "BTC/USDT", stream_silence_s=4.0) as live:
            await live.until(lambda: live.streamer.stats.klines > 24)
            before_us = live.queue.marks[-1].upto_us
            now_us = market.get("/sandbox/clock")["exchange_us"]
            assert now_us - 6_000_000 < before_us < now_us
            assert (live.streamer.stats.runs, live.streamer.stats.dropped) == (1, {})


async def test_a_broker_that_is_away_costs_nothing() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=200, history_hours=1) as market:
        async with streaming(market, "BTC/USDT") as live:
            await live.until(lambda: len(live.queue.trades) > 20)
            live.queue.away = True
            await live.until(lambda: live.streamer.facts()["buffered"] > 100)
            live.queue.away = False
            await live.until(lambda: live.streamer.facts()["buffered"] == 0)
    ids = [trade.first for trade in live.queue.trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert live.queue.refused
    assert_marks(live.queue)


async def test_a_broker_that_blocks_does_not_stop_the_socket() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=200, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", queue=Collected(block_s=3)) as live:
            await live.until(lambda: live.streamer.facts()["buffered"] > 100)  # the market has slow seconds, too
            live.queue.block_s = 0.0
    ids = [trade.first for trade in live.queue.trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_the_watchlist_changes_without_a_reconnect() -> None:
    with start_sandbox(symbols="BTC/USDT,ETH/USDT,SOL/USDT", rate=100, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", "ETH/USDT") as live:
            await live.until(lambda: {1, 2} <= {trade.instrument_id for trade in live.queue.trades})
            live.watchlist[:] = [instrument(2, "ETH/USDT"), instrument(3, "SOL/USDT")]
            await live.until(lambda: bool(live.queue.ids(3)))
            stopped = max(live.queue.ids(1))
            await live.until(lambda: len(live.queue.ids(3)) > 50)
            assert max(live.queue.ids(1)) == stopped
    (marks,) = live.queue.runs().values()
    said = [mark.subscribed for mark in marks if mark.subscribed is not None]
    assert [[one for one, _ in subscribed] for subscribed in said] == [[1, 2], [2, 3]]
    assert dict(said[1])[3] > dict(said[0])[2] == dict(said[1])[2]
    assert live.streamer.stats.reconnects == 0


async def test_a_shard_takes_its_instruments_only() -> None:
    from streamers.daemon import Shard

    with start_sandbox(symbols="BTC/USDT,ETH/USDT,SOL/USDT", rate=100, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", "ETH/USDT", "SOL/USDT", shard=Shard(1, 2), trade_shards=3) as live:
            await live.until(lambda: {trade.instrument_id for trade in live.queue.trades} == {1, 3})
    assert {mark.shard for mark in live.queue.marks} == {"1/2"}
    assert all(set(batch.instrument_id % 3) <= {shard} for shard, batch in live.queue.batches)
    assert_marks(live.queue)


@pytest.mark.slow
async def test_more_than_1024_streams_take_several_connections() -> None:
    """300 symbols are 1,500 streams: two connections, within the exchange's limits, every symbol followed once."""
    names = [f"C{number:03d}/USDT" for number in range(300)]
    with start_sandbox(symbols=",".join(names), rate=600, history_hours=1, ping_s=2) as market:
        started = time.monotonic()
        async with streaming(market, *names) as live:
            await live.until(lambda: live.streamer.facts()["connections"] == 2)
            subscribed_s = time.monotonic() - started
            await live.until(lambda: len({trade.instrument_id for trade in live.queue.trades}) > 200)
            await live.until(lambda: len(live.queue.runs()) == 2)
            stats = live.streamer.stats
            assert (stats.reconnects, stats.runs, stats.dropped) == (0, 2, {})
            assert sorted(len(feed.wanted) for feed in live.streamer.feeds) == [300 - SYMBOLS, SYMBOLS]
    sent = {mark.run: mark.subscribed for mark in live.queue.marks if mark.subscribed}
    assert sorted(one for subscribed in sent.values() for one, _ in subscribed) == list(range(1, 301))
    assert SYMBOLS * STREAMS_OF_SYMBOL <= 1024 and subscribed_s < 60
    assert_marks(live.queue)


async def test_the_end_flushes_and_says_so() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=200, history_hours=1) as market:
        async with streaming(market, "BTC/USDT", flush_interval_ms=2000) as live:
            await live.until(lambda: live.streamer.stats.trades > 60)
            await live.end()
            assert len(live.queue.trades) == live.streamer.stats.trades
            assert live.queue.marks[-1].over
    assert_marks(live.queue)


async def test_an_idle_connection_lets_the_clock_go_on() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=0.001, history_hours=1) as market:
        async with streaming(market, "BTC/USDT") as live:
            await live.until(lambda: len(live.queue.marks) >= 4)
            first, *_, last = live.queue.marks
            now_us = market.get("/sandbox/clock")["exchange_us"]
    assert last.upto_us > first.upto_us
    assert now_us - 6_000_000 < last.upto_us < now_us - 400_000


async def test_the_market_may_come_late() -> None:
    with start_sandbox(symbols="BTC/USDT", rate=100, history_hours=1) as market:
        market.fault("disconnect", after=1, duration_s=2)
        async with streaming(market, "BTC/USDT") as live:
            await live.until(lambda: live.streamer.stats.reconnects >= 1)
            await live.until(lambda: len(live.queue.runs()) >= 2 and len(live.queue.trades) > 50)
    assert_marks(live.queue)


@pytest.mark.slow
async def test_a_whole_file_at_high_speed(shared_data: Path) -> None:
    wanted = file_ids(shared_data / DAY, 24)
    with start_sandbox(replay=[shared_data / DAY], speed=3600, paused=True) as market:
        async with streaming(market, "XRP/ETH") as live:
            await live.until(lambda: live.streamer.stats.runs == 1)
            market.start()
            await live.until(lambda: live.queue.ids(1) == wanted, 180)
    assert_marks(live.queue)
    assert isinstance(live.queue.trades[0], Trade)
