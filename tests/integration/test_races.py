"""Each race and crash window of the core, made to happen on purpose on a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg2.errors
import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State, partial_bars
from app.domain.feeds import Stream
from app.domain.outbox import Span
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.storage import candles, catalog, holes, ledger, outbox
from tests.factories import bars, settle, waiting
from tests.processes import until

T0 = 1_570_752_000_000  # 2019-10-11 00:00 UTC
E8 = 10**8


def trade(instrument: int, second: float, seq: int, *, price: float = 1.0, last: int | None = None) -> Trade:
    time_us = T0 * 1000 + int(second * 1_000_000)
    return Trade(instrument, time_us, seq, seq if last is None else last, round(price * E8), E8, True)


def batch(*trades: Trade, mark: Mark | None = None) -> TradeBatch:
    return TradeBatch.of(trades, mark=mark)


def live(run: int, n: int, upto_s: float, instrument: int, *, since_s: float = 0.0, over: bool = False) -> Mark:
    since_us = T0 * 1000 + int(since_s * 1_000_000)
    subscribed = ((instrument, since_us),) if n == 1 else None
    return Mark(
        run, n, T0 * 1000 + int(upto_s * 1_000_000), "binance", since_us=since_us, subscribed=subscribed, over=over
    )


@pytest.fixture
def core(settings: Settings, redis_client: redis.Redis) -> Iterator[Platform]:
    changed = settings.model_copy(update={"import_idle_s": 0.0, "start_backfill_hours": 0, "feed_wait_s": 2.0})
    platform = Platform(changed, "tests")
    with platform.engine.begin() as connection:
        for table in ("feeds", "feed_batches", "touched", "holes", "ledger", "candles_1m", "coverage"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
    yield platform
    platform.engine.dispose()


@pytest.fixture
def instrument(engine: sa.Engine) -> int:
    instrument.counter = getattr(instrument, "counter", 0) + 1  # type: ignore[attr-defined]
    with engine.begin() as connection:
        return catalog.add(connection, "binance", f"T{instrument.counter}/USDT", active=False).id  # type: ignore[attr-defined]


def official(instrument: int) -> Bar:
    """The exchange's own bar of the first minute."""
    sums = (Decimal(10), Decimal(12), Decimal(5), 7)
    times = (T0 * 1000, 0, T0 * 1000 + 59_999_999, 0)
    return Bar(instrument, T0, 1.0, 2.0, 0.5, 1.5, *sums, *times, State.VERIFIED, 0, Origin.EXCHANGE)


@contextmanager
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def blocked(future: Future[Any], seconds: float = 0.4) -> bool:
    """Whether the call is still waiting."""
    time.sleep(seconds)
    return not future.done()


def close_minutes(core: Platform, instrument: int) -> None:
    """Closes every open minute of the instrument, as an import's end does."""
    mark = Mark(
        int(time.time_ns()),
        1,
        T0 * 1000,
        "binance",
        kind="import",
        since_us=T0 * 1000,
        subscribed=((instrument, T0 * 1000),),
    )
    with core.engine.begin() as connection:
        core.runs.open(connection, mark)
        connection.execute(
            sa.text("UPDATE feeds SET hi = (SELECT max(time) FROM candles_1m) WHERE run = :r"), {"r": mark.run}
        )
    settle(core)
    with core.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM feeds WHERE run = :r"), {"r": mark.run})


class TestLedger:
    def test_isolation_is_read_committed(self, core: Platform) -> None:
        with core.engine.begin() as connection:
            assert connection.scalar(sa.text("SHOW transaction_isolation")) == "read committed"
            assert connection.scalar(sa.text("SHOW jit")) == "off"

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_new_row_waits_for_the_first_writer(self, core: Platform, instrument: int, commits: bool) -> None:
        stream = Stream(instrument, 0)
        first = core.engine.connect()
        begun = first.begin()
        assert ledger.take(first, {stream: [(1, 5)]}) == {}

        def second() -> dict[Stream, list[tuple[int, int]]]:
            with core.engine.begin() as connection:
                return ledger.take(connection, {stream: [(3, 8)]})

        with aside() as pool:
            waits = pool.submit(second)
            assert blocked(waits)
            begun.commit() if commits else begun.rollback()
            assert waits.result(10) == ({stream: [(3, 5)]} if commits else {})
        first.close()

    def test_a_row_not_taken_is_locked_all_the_same(self, core: Platform, instrument: int) -> None:
        stream = Stream(instrument, 0)
        with core.engine.begin() as connection:
            ledger.take(connection, {stream: [(1, 5)]})
        first = core.engine.connect()
        begun = first.begin()
        assert ledger.take(first, {stream: [(4, 6)]}) == {stream: [(4, 5)]}  # overlaps: WHERE is false, the lock holds
        with core.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
            with pytest.raises(sa.exc.OperationalError) as caught:
                ledger.take(connection, {stream: [(10, 11)]})
            assert isinstance(caught.value.orig, psycopg2.errors.LockNotAvailable)
        begun.rollback()
        first.close()

    def test_the_slow_path_sees_what_the_winner_committed(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        """Both deliveries hold trades 2 and 3; whoever is second adds only what is new."""
        gate = threading.Barrier(2)

        def deliver(seqs: tuple[int, ...]) -> int:
            gate.wait()
            return core.ingest.apply(batch(*(trade(instrument, seq, seq) for seq in seqs))).accepted

        for lap in range(5):
            base = 1 + lap * 10
            with aside() as pool:
                done = [
                    pool.submit(deliver, tuple(range(base, base + 3))),
                    pool.submit(deliver, tuple(range(base + 1, base + 4))),
                ]
                assert sum(future.result(20) for future in done) == 4
        assert sum(bar.trade_count for bar in bars(engine, instrument)) == 20

    def test_a_repeated_id_inside_a_batch_counts_once(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        outcome = core.ingest.apply(batch(trade(instrument, 1, 1), trade(instrument, 1, 1), trade(instrument, 2, 2)))
        assert (outcome.accepted, outcome.known) == (2, 1)
        assert [bar.trade_count for bar in bars(engine, instrument)] == [2]

    def test_an_aggregate_partly_known_is_refused_and_stays_a_gap(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 101)))
        outcome = core.ingest.apply(batch(trade(instrument, 2, 100, last=103), trade(instrument, 3, 104)))
        assert (outcome.accepted, outcome.refused) == (1, 1)
        assert core.redis.hget("system:counters", "partial") == b"1"
        with core.engine.begin() as connection:
            assert [gap for gap in ledger.gaps(connection) if gap[0] == instrument] == [(instrument, 102, 104)]


class TestCrashes:
    def test_a_worker_killed_before_commit_leaves_nothing(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        one = batch(trade(instrument, 1, 1), trade(instrument, 61, 2))
        with core.engine.connect() as connection:
            begun = connection.begin()
            pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            ledger.take(connection, {Stream(instrument, 0): [(1, 3)]})
            candles.merge(connection, partial_bars(one))
            with engine.begin() as other:
                other.execute(
                    sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid}
                )  # the socket ends as on SIGKILL
            with pytest.raises(sa.exc.DBAPIError):
                connection.scalar(sa.text("SELECT 1"))
            begun.rollback()
            connection.invalidate()
        assert bars(engine, instrument) == []
        assert core.ingest.apply(one).accepted == 2

    def test_a_commit_whose_answer_was_lost_is_settled_by_the_ledger(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        one = batch(trade(instrument, 1, 1), mark=live(11, 1, 5, instrument))
        core.ingest.apply(one)
        before = bars(engine, instrument)
        again = core.ingest.apply(one)
        assert (again.accepted, again.known) == (0, 1) and bars(engine, instrument) == before
        with core.engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM feed_batches WHERE run = 11")) == 1

    def test_a_paused_worker_gives_its_rows_back(self, core: Platform, instrument: int) -> None:
        stream = Stream(instrument, 0)
        paused = core.engine.connect()
        paused.begin()
        paused.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '500ms'"))
        started = time.monotonic()
        ledger.take(paused, {stream: [(1, 5)]})
        with core.engine.begin() as connection:
            assert ledger.take(connection, {stream: [(1, 5)]}) == {}  # waited, then found it rolled back
        assert 0.2 < time.monotonic() - started < 8
        paused.invalidate()
        paused.close()

    def test_closing_passes_over_a_bar_that_a_batch_is_writing(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1), trade(instrument, 61, 2), mark=live(12, 1, 200, instrument)))
        writer = core.engine.connect()
        begun = writer.begin()
        candles.merge(writer, partial_bars(batch(trade(instrument, 2, 3))))
        core.closing.run()  # must neither wait nor deadlock
        states = {bar.time_ms: bar.state for bar in bars(engine, instrument)}
        assert states[T0] is State.OPEN and states[T0 + 60_000] is State.CLOSED
        begun.commit()
        writer.close()
        core.closing.run()
        assert {bar.state for bar in bars(engine, instrument)} == {State.CLOSED}

    def test_batches_and_closing_beside_each_other_never_deadlock(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        stop = threading.Event()

        def close() -> None:
            while not stop.is_set():
                settle(core)

        with aside() as pool:
            closer = pool.submit(close)
            writers = [
                pool.submit(
                    lambda part=part: [
                        core.ingest.apply(
                            batch(*(trade(instrument, (s * 7) % 600, 1 + s + part * 300) for s in range(k, k + 30)))
                        )
                        for k in range(0, 300, 30)
                    ]
                )
                for part in range(2)
            ]
            for writer in writers:
                writer.result(60)
            stop.set()
            closer.result(60)
        assert sum(bar.trade_count for bar in bars(engine, instrument)) == 600


class TestMarks:
    def test_a_late_trade_leaves_its_mark_in_the_same_transaction(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        """Killed right after the commit, redelivery says "known": only the outbox still tells that 5m is stale."""
        core.ingest.apply(batch(trade(instrument, 1, 1)))
        close_minutes(core, instrument)
        late = batch(trade(instrument, 2, 2, price=9.0))
        core.ingest.apply(late)  # and the process dies here: nothing was enqueued, nothing published
        assert waiting(engine)["rollup"] == 1
        assert core.ingest.apply(late).known == 1
        settle(core)
        (five,) = bars(engine, instrument, "5m")
        assert (five.trade_count, five.high) == (2, 9.0)
        assert bars(engine, instrument)[0].revision == 1

    def test_a_touch_while_the_settler_works_is_not_lost(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1)))
        close_minutes(core, instrument)
        core.ingest.apply(batch(trade(instrument, 2, 2)))  # the mark the settler takes
        settler = core.engine.connect()
        begun = settler.begin()
        assert outbox.lock(settler, 0)
        assert len(outbox.take(settler, "rollup")) == 1
        outbox.roll_up(settler, Timeframe.M5, {instrument: [T0]})
        started = time.monotonic()
        core.ingest.apply(batch(trade(instrument, 3, 3)))  # does not wait for the settler
        assert time.monotonic() - started < 5
        begun.commit()
        settler.close()
        assert bars(engine, instrument, "5m")[0].trade_count == 2
        settle(core)
        assert bars(engine, instrument, "5m")[0].trade_count == 3

    def test_only_one_settles_a_shard(self, core: Platform, instrument: int) -> None:
        """Two roll-ups of one bucket at once: the older snapshot, writing last, would store a stale bar."""
        core.ingest.apply(batch(trade(instrument, 1, 1)))
        with core.engine.begin() as connection:
            outbox.mark(connection, "rollup", [Span(instrument, T0, T0)])
        holder = core.engine.connect()
        begun = holder.begin()
        assert outbox.lock(holder, 0)
        assert core.settle.run() == 0
        begun.rollback()
        holder.close()
        assert core.settle.run() == 1

    def test_a_settler_that_dies_gives_its_marks_back(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        with core.engine.begin() as connection:
            outbox.mark(connection, "rollup", [Span(instrument, T0, T0)])
        with core.engine.connect() as connection:
            begun = connection.begin()
            assert outbox.take(connection, "rollup")
            begun.rollback()
        assert waiting(engine)["rollup"] == 1

    def test_publishing_again_after_a_crash(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1)))
        close_minutes(core, instrument)
        with core.engine.begin() as connection:
            outbox.mark(connection, "publish", [Span(instrument, T0, T0)])
        heard = core.redis.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("chart_updates")
        heard.get_message(timeout=1)
        broken = replace(core.publish, announcer=replace(core.announcer, publisher=Deaf(core.publisher)))
        with pytest.raises(redis.ConnectionError):
            broken.run()
        assert waiting(engine)["publish"] >= 1
        core.publish.run()
        message = until(lambda: heard.get_message(timeout=1), what="it was published")
        assert b'"5m"' in message["data"]
        heard.close()


class Deaf:
    """A publisher whose Redis is away."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def send(self, *_: Any) -> None:
        raise redis.ConnectionError("away")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class TestFlatAndVerified:
    def test_ids_prove_quiet_minutes_and_only_those(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        core.ingest.apply(
            batch(
                trade(instrument, 1, 1, price=5), trade(instrument, 181, 2, price=6), trade(instrument, 361, 4, price=7)
            )
        )
        close_minutes(core, instrument)
        stored = {(bar.time_ms - T0) // 60_000: bar for bar in bars(engine, instrument)}
        assert sorted(stored) == [0, 1, 2, 3, 6]  # id 3 is missing: minutes 4 and 5 are unknown, not quiet
        assert {stored[i].origin for i in (1, 2)} == {Origin.FLAT} and stored[1].close == 5.0

    def test_a_late_trade_replaces_a_flat_bar(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1, price=100), trade(instrument, 121, 2, price=100)))
        close_minutes(core, instrument)
        flat = bars(engine, instrument)[1]
        assert (flat.origin, flat.open) == (Origin.FLAT, 100.0)
        core.ingest.apply(batch(trade(instrument, 61, 9, price=50)))
        bar = bars(engine, instrument)[1]
        assert (bar.open, bar.high, bar.low, bar.close, bar.trade_count) == (50.0, 50.0, 50.0, 50.0, 1)
        assert (bar.origin, bar.revision) == (Origin.TRADES, 1)
        assert waiting(engine)["rollup"] == 1

    def test_flat_bars_follow_a_revised_close(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        core.ingest.apply(
            batch(
                trade(instrument, 1, 1, price=5), trade(instrument, 181, 3, price=6), trade(instrument, 301, 4, price=8)
            )
        )
        with core.engine.begin() as connection:
            ledger.add(connection, instrument, 2, 3)
        close_minutes(core, instrument)
        core.ingest.apply(
            batch(trade(instrument, 190, 10, price=7))
        )  # minute 3 now closes at 7, and 4 is flat behind it
        settle(core)
        stored = {(bar.time_ms - T0) // 60_000: bar for bar in bars(engine, instrument)}
        assert (stored[4].close, stored[4].revision, stored[4].origin) == (7.0, 1, Origin.FLAT)

    def test_a_roll_up_takes_nothing_from_flat_minutes(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        core.ingest.apply(batch(trade(instrument, 241, 1, price=9), trade(instrument, 421, 2, price=4)))
        close_minutes(core, instrument)
        second = bars(engine, instrument, "5m")[1]  # minutes 5 and 6 are flat at 9, minute 7 trades at 4
        assert (second.open, second.high, second.low, second.close, second.trade_count) == (4.0, 4.0, 4.0, 4.0, 1)

    def test_a_verified_bar_is_left_alone_and_checked_again(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        word = official(instrument)
        with core.engine.begin() as connection:
            candles.replace(connection, [word])
        outcome = core.ingest.apply(batch(trade(instrument, 1, 1, price=99)))
        assert (outcome.accepted, outcome.verified) == (1, 1)
        (bar,) = bars(engine, instrument)
        assert (bar.high, bar.state, bar.trade_count) == (2.0, State.VERIFIED, 7)
        with core.engine.begin() as connection:
            assert [hole.cause for hole in holes.open_holes(connection) if hole.instrument_id == instrument] == [
                "late trade"
            ]
            assert (
                connection.scalar(
                    sa.text("SELECT applied::text FROM ledger WHERE instrument_id = :i"), {"i": instrument}
                )
                == "{[1,2)}"
            )
        assert core.redis.hget("system:counters", "late_on_verified") == b"1"

    def test_only_a_newer_word_of_the_exchange_changes_a_verified_bar(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        word = official(instrument)
        with core.engine.begin() as connection:
            assert candles.replace(connection, [word]) == [(instrument, T0)]
            assert candles.replace(connection, [word]) == []
            assert candles.replace(connection, [replace(word, high=2.5)]) == [(instrument, T0)]
        assert [(bar.high, bar.revision) for bar in bars(engine, instrument)] == [(2.5, 1)]


class TestClock:
    def clock(self, core: Platform, run: int) -> float | None:
        with core.engine.begin() as connection:
            value = connection.scalar(sa.text("SELECT extract(epoch FROM clock) FROM feeds WHERE run = :r"), {"r": run})
        return None if value is None else float(value) - T0 / 1000

    def test_batches_out_of_order_never_advance_it_too_far(self, core: Platform, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1), mark=live(21, 1, 10, instrument)))
        core.ingest.apply(batch(trade(instrument, 31, 3), mark=live(21, 3, 40, instrument)))
        core.closing.run()
        assert self.clock(core, 21) == 10
        core.ingest.apply(batch(trade(instrument, 21, 2), mark=live(21, 2, 30, instrument)))
        core.closing.run()
        assert self.clock(core, 21) == 40

    def test_a_batch_that_never_comes_becomes_a_hole(self, core: Platform, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1), mark=live(22, 1, 10, instrument)))
        core.closing.run()
        core.ingest.apply(batch(trade(instrument, 130, 9), mark=live(22, 3, 140, instrument)))
        core.closing.run()
        assert self.clock(core, 22) == 10

        def given_up() -> bool:
            core.closing.run()
            return self.clock(core, 22) == 140

        until(given_up, what="the batch is not waited for any more")
        with core.engine.begin() as connection:
            found = [
                (hole.lo_ms - T0, hole.hi_ms - T0)
                for hole in holes.open_holes(connection)
                if hole.cause == "batch lost"
            ]
        assert found == [(0, 180_000)]

    def test_a_minute_closes_only_after_its_grace(self, core: Platform, engine: sa.Engine, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1), mark=live(23, 1, 61.9, instrument)))
        core.closing.run()
        assert bars(engine, instrument)[0].state is State.OPEN
        core.ingest.apply(batch(mark=live(23, 2, 62.0, instrument)))
        core.closing.run()
        assert bars(engine, instrument)[0].state is State.CLOSED

    def test_the_edge_is_flat_only_where_the_feed_was_connected(
        self, core: Platform, engine: sa.Engine, instrument: int
    ) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1, price=3), mark=live(24, 1, 50, instrument)))
        core.ingest.apply(batch(mark=live(24, 2, 190, instrument)))
        core.closing.run()
        assert [(bar.time_ms - T0) // 60_000 for bar in bars(engine, instrument)] == [0, 1, 2]
        core.ingest.apply(batch(mark=live(24, 3, 200, instrument, over=True)))
        core.ingest.apply(batch(mark=live(25, 1, 700, instrument, since_s=605)))
        core.closing.run()
        assert len(bars(engine, instrument)) == 3, "minutes without a connection are no quiet minutes"
        with core.engine.begin() as connection:
            doubt = [
                (h.lo_ms - T0, h.hi_ms - T0) for h in holes.open_holes(connection) if h.instrument_id == instrument
            ]
        assert (120_000, 660_000) in doubt, "from the last bar up to the minute the new connection began in"

    def test_the_first_minute_after_connecting_is_in_doubt(self, core: Platform, instrument: int) -> None:
        core.ingest.apply(batch(mark=live(26, 1, 100, instrument, since_s=95)))
        with core.engine.begin() as connection:
            found = [
                (h.lo_ms - T0, h.hi_ms - T0, h.cause)
                for h in holes.open_holes(connection)
                if h.instrument_id == instrument
            ]
            assert found == [(60_000, 120_000, "connected")]
            assert holes.covered(connection, instrument) == [(T0 + 60_000, None)]


class TestGaps:
    def test_missing_ids_count_in_once_their_minutes_are_verified(self, core: Platform, instrument: int) -> None:
        core.ingest.apply(batch(trade(instrument, 1, 1), mark=live(31, 1, 10, instrument)))
        core.ingest.apply(batch(trade(instrument, 70, 5), mark=live(31, 2, 130, instrument)))
        core.closing.run()
        assert core.repair.find_gaps() == 1
        with core.engine.begin() as connection:
            (gap,) = [
                h for h in holes.open_holes(connection) if h.instrument_id == instrument and h.cause == "missing trades"
            ]
            assert (gap.lo_ms - T0, gap.hi_ms - T0) == (0, 120_000)
            word = replace(official(instrument), high=1.0, low=1.0, close=1.0, trade_count=4)
            candles.replace(connection, [word])
        core.repair.find_gaps()
        with core.engine.begin() as connection:
            assert (instrument, 2, 5) in ledger.gaps(connection), "one of the two minutes is not verified yet"
            candles.replace(connection, [replace(word, time_ms=T0 + 60_000, trade_count=1)])
        core.repair.find_gaps()
        with core.engine.begin() as connection:
            assert not [g for g in ledger.gaps(connection) if g[0] == instrument]

    def test_ids_between_two_imports_are_no_hole(self, core: Platform, instrument: int) -> None:
        def day(run: int, second: int, seq: int) -> TradeBatch:
            since = T0 * 1000 + second * 1_000_000
            mark = Mark(
                run, 1, since, "binance", kind="import", since_us=since, subscribed=((instrument, since),), over=True
            )
            return batch(trade(instrument, second, seq), mark=mark)

        core.ingest.apply(day(41, 0, 1))
        core.ingest.apply(day(42, 86_400 * 2, 1000))
        settle(core)
        assert core.repair.find_gaps() == 0
