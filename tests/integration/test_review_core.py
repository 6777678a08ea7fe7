"""Ways in which the core once lost, starved or repeated work; each made to happen on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg2.errors
import pytest
import redis
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import Reject

from app.bootstrap import Platform
from app.cache import health, parked
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.counted import COUNTED
from app.domain.history import Backfill as Request
from app.domain.instruments import Instrument
from app.domain.outbox import Span
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.errors import RateLimited, SourceAway, UnknownInstrument, WireError
from app.services.repair import Repair
from app.storage import backfills, candles, catalog, feeds, holes, ledger, outbox
from app.storage.imports import ImportProgress
from tasks import base
from tests.factories import bars

T0 = 1_570_752_000_000  # 2019-10-11 00:00 UTC
E8 = 10**8


@pytest.fixture
def core(settings: Settings, redis_client: redis.Redis) -> Iterator[Platform]:
    changed = settings.model_copy(update={"import_idle_s": 0.0, "start_backfill_hours": 0, "feed_wait_s": 0.0})
    platform = Platform(changed, "tests")
    with platform.engine.begin() as connection:
        for table in ("feeds", "feed_batches", "touched", "holes", "ledger", "candles_1m", "coverage", "backfills"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
    yield platform
    platform.engine.dispose()


@pytest.fixture
def add(engine: sa.Engine) -> Callable[[str], int]:
    def added(symbol: str) -> int:
        with engine.begin() as connection:
            return catalog.add(connection, "binance", symbol, active=False).id

    return added


def trade(instrument: int, second: float, seq: int, *, price: int = 1) -> Trade:
    return Trade(instrument, T0 * 1000 + int(second * 1_000_000), seq, seq, price * E8, E8, True)


def batch(mark: Mark | None, *trades: Trade) -> TradeBatch:
    return TradeBatch.of(trades, mark=mark)


def live(run: int, n: int, upto_s: float, *ids: int, since_s: float = 0, over: bool = False) -> Mark:
    since_us = T0 * 1000 + int(since_s * 1_000_000)
    subscribed = tuple((i, since_us) for i in ids) if ids else None
    upto_us = T0 * 1000 + int(upto_s * 1_000_000)
    return Mark(run, n, upto_us, "binance", since_us=since_us, subscribed=subscribed, over=over)


def kline(instrument: int, minute: int, *, trades: int = 1) -> Bar:
    time_ms = T0 + minute * MINUTE_MS
    sums = (Decimal(trades), Decimal(trades), Decimal(trades))
    ends = (time_ms * 1000, 0, time_ms * 1000 + 59_999_999, 0)
    return Bar(instrument, time_ms, 1.0, 1.0, 1.0, 1.0, *sums, trades, *ends, State.VERIFIED, 0, Origin.EXCHANGE)


@dataclass
class Source:
    """An exchange's history: what it does not list, and whom it refuses."""

    unlisted: Sequence[int] = ()
    refused: dict[int, Exception] = field(default_factory=dict)
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        lo, hi = (start_ms - T0) // MINUTE_MS, (end_ms - T0) // MINUTE_MS
        self.asked.append((instrument.id, lo, hi))
        if instrument.id in self.refused:
            raise self.refused[instrument.id]
        return [kline(instrument.id, minute) for minute in range(lo, hi) if minute not in self.unlisted]


@dataclass
class Clock:
    """An exchange's clock that stands far after everything."""

    minute: int = 100_000

    def now_us(self) -> int:
        return (T0 + self.minute * MINUTE_MS) * 1000


def repairing(core: Platform, source: Source) -> Repair:
    return replace(core.repair, history=lambda _: source, clock=Clock())


def few(limit: int) -> Any:
    """The store of holes, of which a run reads so many."""
    names = {name: getattr(holes, name) for name in dir(holes) if not name.startswith("__")}
    return SimpleNamespace(**{**names, "open_holes": partial(holes.open_holes, limit=limit)})


def record(core: Platform, instrument: int, lo: int, hi: int) -> None:
    with core.engine.begin() as connection:
        holes.record(connection, instrument, T0 + lo * MINUTE_MS, T0 + hi * MINUTE_MS, "test")


def open_holes(core: Platform) -> list[tuple[int, int, int, str]]:
    with core.engine.begin() as connection:
        found = holes.open_holes(connection, due_only=False)
    return [(h.instrument_id, (h.lo_ms - T0) // MINUTE_MS, (h.hi_ms - T0) // MINUTE_MS, h.cause) for h in found]


class TestRepair:
    def test_an_instrument_the_exchange_does_not_know_stops_no_other(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        unknown, known = add("NONE/USDT"), add("SOME/USDT")
        record(core, unknown, 0, 1)
        record(core, known, 0, 1)
        repair = repairing(core, Source(refused={unknown: UnknownInstrument("Binance does not know it")}))
        assert repair.run() == 1
        assert [hole[0] for hole in open_holes(core)] == [unknown]

    def test_a_refusal_for_too_many_requests_ends_the_run_and_the_next_ones(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        first, second = add("NONE/USDT"), add("SOME/USDT")
        record(core, first, 0, 1)
        record(core, second, 0, 1)
        source = Source(refused={first: RateLimited("slow down", retry_after_s=60)})
        repair = repairing(core, source)
        assert repair.run() == 0 and repair.run() == 0
        assert len(source.asked) == 1

    def test_a_hole_of_many_requests_comes_to_its_end_with_the_search_beside_it(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """The search once recorded the whole hole anew whenever its start was repaired, and repair began again."""
        instrument = add("LONG/USDT")
        core.ingest.apply(batch(live(1, 1, 1, instrument), trade(instrument, 1, 1)))
        core.ingest.apply(batch(live(1, 2, 3000 * 60 + 1), trade(instrument, 3000 * 60, 50)))
        repair = repairing(core, Source())
        for _ in range(6):
            repair.find_gaps()
            repair.run()
        repair.find_gaps()
        assert open_holes(core) == []
        with core.engine.begin() as connection:
            assert ledger.gaps(connection) == []
        assert {bar.state for bar in bars(core.engine, instrument)} == {State.VERIFIED}

    def test_minutes_the_exchange_never_lists_are_asked_for_once(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument = add("HALT/USDT")
        core.ingest.apply(batch(live(1, 1, 1, instrument), trade(instrument, 1, 1)))
        core.ingest.apply(batch(live(1, 2, 601), trade(instrument, 600, 50)))
        source = Source(unlisted=[4, 5])
        repair = repairing(core, source)
        for _ in range(4):
            repair.find_gaps()
            repair.run()
        with core.engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM holes WHERE cause = 'missing trades'")) == 1
        assert len(source.asked) == 1 and open_holes(core) == []

    def test_holes_that_are_not_over_take_no_place(self, core: Platform, add: Callable[[str], int]) -> None:
        early, late = add("EARLY/USDT"), add("LATE/USDT")
        for minute in range(210):
            record(core, early, 200_000 + 2 * minute, 200_001 + 2 * minute)
        record(core, late, 0, 1)
        assert repairing(core, Source()).run() == 1

    def test_an_exchange_that_rests_takes_no_place(
        self, core: Platform, add: Callable[[str], int], engine: sa.Engine
    ) -> None:
        """200 due holes of an exchange that was resting once kept those of all others from being read."""
        with engine.begin() as connection:
            stocks = [
                catalog.add(connection, "alpaca", symbol, active=False).id for symbol in ("RESTA", "RESTB", "RESTC")
            ]
        for instrument in (*stocks, coin := add("AWAKE/USDT")):
            record(core, instrument, 0, 1)
        source = Source(refused={stock: RateLimited("slow down", retry_after_s=60) for stock in stocks})
        repair = replace(repairing(core, source), holes=few(2))
        repair.run()
        repair.run()
        assert [asked[0] for asked in source.asked] == [stocks[0], coin]

    def test_one_instruments_many_holes_leave_the_others_their_turn(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """An import over verified minutes leaves thousands; a live hole found later once waited for all of them."""
        many, other = add("MANY/USDT"), add("ONE/USDT")
        for minute in range(9):
            record(core, many, 2 * minute, 2 * minute + 1)
        record(core, other, 0, 1)
        source = Source()
        replace(repairing(core, source), holes=few(4), budget=2).run()
        assert sorted(asked[0] for asked in source.asked) == [many, other]

    def test_what_grows_while_history_is_asked_keeps_what_was_not(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """The search lets a hole grow beside repair: closed whole, its newest minute was never fetched."""
        instrument = add("GROWS/USDT")

        def down(hi: int) -> None:
            with core.engine.begin() as connection:
                holes.extend_all(connection, [(instrument, T0, T0 + hi * MINUTE_MS)], "feed down")

        class Slow(Source):
            def klines(self, *args: Any, **kwargs: Any) -> list[Bar]:
                down(6)
                return super().klines(*args, **kwargs)

        down(5)
        repair = repairing(core, source := Slow())
        assert repair.run() == 0 and open_holes(core) == [(instrument, 5, 6, "feed down")]
        assert repair.run() == 1 and source.asked == [(instrument, 0, 5), (instrument, 5, 6)]
        assert open_holes(core) == []

    def test_late_trades_of_a_batch_near_each_other_are_one_hole(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument, minutes = add("IMPORT/USDT"), (0, 1, 2, 40, 140)
        with core.engine.begin() as connection:
            candles.replace(connection, [kline(instrument, minute) for minute in minutes])
        core.ingest.apply(batch(None, *(trade(instrument, 60 * m + 1, m + 1) for m in minutes)))
        assert open_holes(core) == [(instrument, 0, 41, "late trade"), (instrument, 140, 141, "late trade")]

    def test_a_late_trade_while_history_is_asked_about_its_minute_has_it_asked_again(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """The answer that is on its way may be from before it, and the hole that is open already closes with that."""
        instrument = add("BUSY/USDT")
        with core.engine.begin() as connection:
            candles.replace(connection, [kline(instrument, minute) for minute in range(41)])

        class Slow(Source):
            def klines(self, *args: Any, **kwargs: Any) -> list[Bar]:
                if not self.asked:
                    core.ingest.apply(batch(None, trade(instrument, 60 * 20 + 1, 21)))
                return super().klines(*args, **kwargs)

        core.ingest.apply(batch(None, *(trade(instrument, 60 * m + 1, m + 1) for m in (0, 40))))
        repair = repairing(core, source := Slow())
        assert repair.run() == 1 and open_holes(core) == [(instrument, 20, 21, "late trade")]
        assert repair.run() == 1 and source.asked == [(instrument, 0, 41), (instrument, 20, 21)]
        assert open_holes(core) == []

    def test_a_small_hole_beside_a_long_one_is_closed_not_turned_round(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument = add("PAIR/USDT")
        record(core, instrument, 0, 2)
        record(core, instrument, 1, 1500)
        assert repairing(core, Source()).run() == 1
        assert open_holes(core) == [(instrument, 1000, 1500, "test")]


class TestFeeds:
    def test_an_import_waits_for_a_batch_however_late_it_is(self, core: Platform, add: Callable[[str], int]) -> None:
        """A killed worker's batch comes back after a minute; until then the import is not done."""
        instrument = add("LATE/USDT")
        since = T0 * 1000

        def mark(n: int) -> Mark:
            news = ((instrument, since),) if n == 1 else None
            return Mark(5, n, since, "binance", kind="import", since_us=since, subscribed=news, over=n == 3)

        core.ingest.apply(batch(mark(1), trade(instrument, 1, 1)))
        core.ingest.apply(batch(mark(3), trade(instrument, 3, 3)))
        core.closing.run()
        core.closing.run()
        progress = ImportProgress(core.engine)
        assert progress.import_progress(5, instrument, T0, T0 + MINUTE_MS)[0] == 1
        core.ingest.apply(batch(mark(2), trade(instrument, 2, 2)))
        core.closing.run()
        assert progress.import_progress(5, instrument, T0, T0 + MINUTE_MS)[0] == 3
        assert progress.import_counts(5)[0] == 3

    def test_a_run_taken_for_dead_goes_on_when_it_speaks_again(self, core: Platform, add: Callable[[str], int]) -> None:
        """Ten minutes without a worker, or a laptop's sleep, once left its bars open until the next connection."""
        instrument = add("SLEEP/USDT")
        core.ingest.apply(batch(live(6, 1, 5, instrument), trade(instrument, 1, 1)))
        core.closing.run()
        with core.engine.begin() as connection:
            connection.execute(sa.text("UPDATE feeds SET progress = now() - interval '1 hour'"))
            feeds.forget(connection, silent_s=600)
            assert feeds.runs(connection) == []
        core.ingest.apply(batch(live(6, 2, 130)))
        core.closing.run()
        assert bars(core.engine, instrument)[0].state is State.CLOSED

    def test_a_batch_lost_right_before_the_end_of_a_run_is_a_hole(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument = add("LAST/USDT")
        core.ingest.apply(batch(live(7, 1, 70, instrument), trade(instrument, 61, 1)))
        core.closing.run()
        core.ingest.apply(batch(live(7, 3, 130, over=True)))
        core.closing.run()
        assert (instrument, 1, 3, "batch lost") in open_holes(core)

    def test_without_any_bar_the_doubt_reaches_back_to_where_coverage_began(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument = add("QUIET/USDT")
        core.ingest.apply(batch(live(8, 1, 12, instrument, since_s=10)))
        core.ingest.apply(batch(live(9, 1, 310, instrument, since_s=305)))
        assert (instrument, 0, 6, "connected") in open_holes(core)

    def test_the_last_minutes_of_an_instrument_that_is_left_are_the_exchanges(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """Nothing closes them any more: the feed's clock is no longer theirs."""
        stays, leaves = add("STAYS/USDT"), add("LEAVES/USDT")
        core.ingest.apply(batch(live(10, 1, 30, stays, leaves), trade(leaves, 20, 1)))
        core.ingest.apply(batch(live(10, 2, 40, stays)))
        assert (leaves, 0, 1, "left") in open_holes(core) or (leaves, 0, 1, "connected") in open_holes(core)
        core.ingest.apply(batch(live(10, 3, 95, stays, leaves, since_s=90), trade(leaves, 100, 2)))
        core.ingest.apply(batch(live(10, 4, 130, stays)))
        assert any(hole[0] == leaves and hole[1] <= 1 and hole[2] == 3 for hole in open_holes(core))
        repairing(core, Source()).run()
        assert {bar.state for bar in bars(core.engine, leaves)} == {State.VERIFIED}


class TestSettle:
    def test_long_marks_of_many_are_settled_in_short_transactions(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        """Sixty instruments' backfilled chunks once took two seconds in one."""
        ids = [add(f"DEEP{k}/USDT") for k in range(50)]
        with core.engine.begin() as connection:
            outbox.mark(connection, "rollup", [Span(i, T0, T0 + 999 * MINUTE_MS) for i in ids])
        assert [core.settle.run() for _ in range(4)] == [20, 20, 10, 0]


class TestBackfills:
    def request(self, core: Platform, instrument: int) -> int:
        with core.engine.begin() as connection:
            return backfills.create(connection, instrument, Timeframe.M1, T0, T0 + 2000 * MINUTE_MS)

    def get(self, core: Platform, backfill_id: int) -> Request:
        with core.engine.begin() as connection:
            found = backfills.get(connection, backfill_id)
        assert found is not None
        return found

    def test_only_so_many_are_started_however_often_one_asks(self, core: Platform, add: Callable[[str], int]) -> None:
        """500 of them once filled their queue without end: whoever waited in it was taken for dead and sent again."""
        ids = [self.request(core, add("MANY/USDT")) for _ in range(5)]
        started = []
        for _ in range(3):
            with core.engine.begin() as connection:
                started += backfills.claim(connection, most=2, stale_s=60, retry_s=10)
        assert started == ids[:2]
        with core.engine.begin() as connection:
            connection.execute(sa.text("UPDATE backfills SET updated = now() - interval '2 minutes'"))
            assert backfills.claim(connection, most=2, stale_s=60, retry_s=10) == ids[:2]
            assert backfills.claim(connection, most=2, stale_s=60, retry_s=10) == []

    def test_a_source_that_is_away_is_asked_again_and_a_refusal_is_final(
        self, core: Platform, add: Callable[[str], int]
    ) -> None:
        instrument = add("AWAY/USDT")
        source = Source(refused={instrument: SourceAway("no answer")})
        backfill = replace(core.backfill, history=lambda _: source)
        wanted = self.request(core, instrument)
        assert not backfill.run(wanted)
        assert self.get(core, wanted).state == "waiting" and self.get(core, wanted).error == "no answer"
        with core.engine.begin() as connection:
            assert backfills.claim(connection, most=2, stale_s=60, retry_s=10) == []
            assert backfills.claim(connection, most=2, stale_s=60, retry_s=0) == [wanted]
        source.refused = {instrument: UnknownInstrument("never heard of it")}
        assert not backfill.run(wanted)
        assert self.get(core, wanted).state == "failed"


class TestTasks:
    @pytest.fixture
    def patient(self, core: Platform, monkeypatch: pytest.MonkeyPatch) -> base.PlatformTask:
        """A task that carries trades and always deadlocks."""

        class Deadlocked(psycopg2.errors.DeadlockDetected):
            pgcode = "40P01"

        def deadlock(data: bytes) -> None:
            raise sa.exc.OperationalError("merge", {}, Deadlocked("deadlock"))

        monkeypatch.setattr("tasks.base.platform", lambda: core)
        monkeypatch.setattr("tasks.base.time.sleep", lambda _: None)
        app = Celery("review", set_as_current=False)
        task: base.PlatformTask = app.task(name="tests.patient", base=base.PlatformTask, patient=True)(deadlock)
        return task

    def test_a_batch_its_neighbours_keep_out_goes_back_to_the_queue(self, patient: base.PlatformTask) -> None:
        with pytest.raises(Reject) as caught:
            patient(b"trades")
        assert caught.value.requeue

    def test_what_fails_for_a_reason_nobody_foresaw_is_parked(self, core: Platform, patient: base.PlatformTask) -> None:
        patient.on_failure(ValueError("defect"), "id", (b"trades",), {}, None)
        assert core.redis.lrange("parked", 0, -1) == [b"trades"]
        assert core.redis.hget("system:counters", "failed_tasks") == b"1"

    def test_only_the_newest_are_kept_aside_and_the_others_counted(
        self, core: Platform, patient: base.PlatformTask
    ) -> None:
        for number in range(parked.MOST + 3):
            patient.on_failure(ValueError("defect"), "id", (b"%d" % number,), {}, None)
        kept = core.redis.lrange("parked", 0, -1)
        assert (len(kept), kept[0], kept[-1]) == (parked.MOST, b"3", b"%d" % (parked.MOST + 2))
        counted = health.counters(core.redis)
        assert (counted["failed_tasks"], counted[parked.DROPPED]) == (parked.MOST + 3, 3)
        assert parked.DROPPED in COUNTED

    def test_a_batch_this_worker_cannot_read_is_parked(self, core: Platform, patient: base.PlatformTask) -> None:
        """An old worker beside a newer streamer, say: the trades wait for one that can read them."""

        def unreadable(data: bytes) -> None:
            raise WireError("trade batch of version 2; this worker reads 1")

        patient.run = unreadable
        assert patient(b"trades of version 2") is None
        assert core.redis.lrange("parked", 0, -1) == [b"trades of version 2"]
        assert core.redis.hget("system:counters", "refused_batches") == b"1"
