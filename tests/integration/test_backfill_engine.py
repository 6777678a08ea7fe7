"""The backfill engine against a source that notes every request, on a real database and in the test's own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from app.bootstrap import Platform, platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.history import Backfill as Request
from app.domain.instruments import Instrument
from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import Forbidden, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.services import backfill as engine_module
from app.services.backfill import Backfill
from app.storage import backfills, candles, catalog, holes, outbox

T0 = 1_699_920_000_000  # 2023-11-14, a midnight, a Tuesday
NOW = T0 + 20 * DAY_MS
M1, H1, D1 = Timeframe.M1, Timeframe.H1, Timeframe.D1


def at(minute: int) -> int:
    """The start (ms) of a minute since T0."""
    return T0 + minute * MINUTE_MS


@dataclass
class Source:
    """A history whose bars follow from their time; notes what it was asked for."""

    first_ms: int = 0
    absent: Sequence[range] = ()  # minutes since T0 it has no bar of
    asked: list[tuple[int, int]] = field(default_factory=list)  # minutes since T0: what the answer settled
    errors: list[SourceError | UnknownInstrument] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """See History."""
        if self.errors:
            raise self.errors.pop(0)
        times = range(max(start_ms, self.first_ms // timeframe.ms * timeframe.ms), end_ms, timeframe.ms)
        there = (time for time in times if not any((time - T0) // MINUTE_MS in gap for gap in self.absent))
        found = [bar(instrument.id, time, timeframe) for time, _ in zip(there, range(limit), strict=False)]
        hi_ms = found[-1].time_ms + timeframe.ms if len(found) == limit else end_ms
        self.asked.append(((start_ms - T0) // MINUTE_MS, (hi_ms - T0) // MINUTE_MS))
        self.meanwhile()
        return found


@dataclass
class Clock:
    """Exchange time as the test says."""

    now_ms: int = NOW

    def now_us(self) -> int:
        """See Clock of the ports."""
        return self.now_ms * 1000


def bar(instrument_id: int, time_ms: int, tf: Timeframe) -> Bar:
    price = 100.0 + time_ms // MINUTE_MS % 977
    sums = (Decimal(5), Decimal(500), Decimal(2))
    times = (time_ms * 1000, 0, (time_ms + tf.ms) * 1000 - 1, 0)
    return Bar(instrument_id, time_ms, price, price + 2, price - 2, price + 1, *sums, 9, *times, State.VERIFIED, 0,
               Origin.EXCHANGE)  # fmt: skip


@pytest.fixture(scope="module")
def parts(settings: Settings) -> Iterator[Platform]:
    built = platform(settings, process="tests")
    yield built
    built.engine.dispose()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(parts: Platform, source: Source, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Backfill:
    """The engine with nothing in the database; no turn ends for time."""
    monkeypatch.setattr(engine_module, "SLICE_S", 1000.0)
    with parts.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE candles_1m, candles_5m, candles_1h, candles_1d, coverage, backfills"))
        connection.execute(sa.text("TRUNCATE touched, holes"))
    return replace(parts.backfill, history=lambda _: source, clock=clock)


@pytest.fixture
def bitcoin(parts: Platform) -> Instrument:
    return named(parts, "BTC/USDT")


def named(parts: Platform, symbol: str) -> Instrument:
    with parts.engine.begin() as connection:
        return catalog.find(connection, symbol)


def get(work: Backfill, backfill_id: int) -> Request:
    with work.engine.begin() as connection:
        found = backfills.get(connection, backfill_id)
    assert found is not None
    return found


def fetch(work: Backfill, item: Instrument, lo: int, hi: int, tf: Timeframe = M1) -> Request:
    """A backfill of [lo, hi) minutes since T0, at work until it is over or waits."""
    wanted = work.request(item, tf, at(lo), at(hi))
    work.run(wanted)
    return get(work, wanted)


def covered(work: Backfill, item: Instrument, tf: Timeframe = M1) -> list[tuple[int, int | None]]:
    with work.engine.begin() as connection:
        found = holes.covered(connection, item.id, tf=tf)
    return [((lo - T0) // MINUTE_MS, None if hi is None else (hi - T0) // MINUTE_MS) for lo, hi in found]


def stored(work: Backfill, item: Instrument, tf: Timeframe = M1) -> list[Bar]:
    with work.engine.begin() as connection:
        return candles.read(connection, item.id, tf, limit=100_000)


def free(work: Backfill) -> None:
    """As if every lease and wait had passed."""
    with work.engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET not_before = clock_timestamp() WHERE not_before IS NOT NULL"))


def test_a_range_in_pages_and_never_again(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    done = fetch(work, bitcoin, 0, 2500)
    assert (done.state, done.bars, done.cursor_ms, done.empty_to_ms) == ("done", 2500, at(2500), None)
    assert source.asked == [(0, 1000), (1000, 2000), (2000, 2500)]
    assert stored(work, bitcoin) == [bar(bitcoin.id, at(minute), M1) for minute in range(2500)]
    assert covered(work, bitcoin) == [(0, 2500)]
    source.asked.clear()
    again = fetch(work, bitcoin, 0, 2500)
    assert (again.state, again.bars, source.asked) == ("done", 2500, [])
    assert fetch(work, bitcoin, 2000, 3100).state == "done" and source.asked == [(2500, 3100)]
    source.asked.clear()
    assert fetch(work, bitcoin, -50, 3150).bars == 3200
    assert source.asked == [(-50, 0), (3100, 3150)]


def test_what_is_not_verified_is_asked_for_again_in_few_requests(
    work: Backfill, source: Source, bitcoin: Instrument
) -> None:
    fetch(work, bitcoin, 0, 3000)
    with work.engine.begin() as connection:
        for minute in (10, 300, 900):
            change = "UPDATE candles_1m SET state = 1 WHERE time = to_timestamp(:t)"
            connection.execute(sa.text(change), {"t": at(minute) / 1000})
        connection.execute(sa.text("DELETE FROM candles_1m WHERE time = to_timestamp(:t)"), {"t": at(2600) / 1000})
    source.asked.clear()
    assert fetch(work, bitcoin, 0, 3000).bars == 3000
    assert source.asked == [(10, 901), (2600, 2601)]
    assert len(stored(work, bitcoin)) == 3000 and {one.state for one in stored(work, bitcoin)} == {State.VERIFIED}


@pytest.mark.parametrize("tf", [M1, H1])
def test_a_word_that_came_while_the_source_was_asked_is_not_undone(
    work: Backfill, source: Source, bitcoin: Instrument, tf: Timeframe
) -> None:
    """A page fetches held bars between missing ones again; a bar corrected meanwhile once got its old values back."""
    first, second, third, fourth = (bar(bitcoin.id, T0 + n * tf.ms, tf) for n in range(4))
    held, corrected = replace(first, close=1.0), replace(second, close=1.0)

    def put(*bars: Bar) -> None:
        with work.engine.begin() as connection:
            candles.replace(connection, bars, tf=tf)

    put(held, second)
    source.meanwhile = lambda: put(corrected, replace(fourth, close=2.0))
    assert fetch(work, bitcoin, 0, 4 * tf.minutes, tf).state == "done"
    found = [(one.time_ms, one.close) for one in stored(work, bitcoin, tf)]
    assert found == [(one.time_ms, one.close) for one in (first, corrected, third, replace(fourth, close=2.0))]
    assert covered(work, bitcoin, tf) == [(0, 4 * tf.minutes)]


def test_a_range_before_the_first_bar_ends_and_says_so(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    source.first_ms = at(0)
    nothing = fetch(work, bitcoin, -1_000_000, -500_000)
    assert (nothing.state, nothing.bars, nothing.empty_to_ms) == ("done", 0, at(-500_000))
    assert len(source.asked) == 1 and covered(work, bitcoin) == []
    assert fetch(work, bitcoin, -900_000, -600_000).empty_to_ms == at(-600_000) and len(source.asked) == 1


def test_a_listing_long_after_the_start_costs_one_request(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    source.first_ms = at(20_000)
    done = fetch(work, bitcoin, -400_000, 20_300)
    assert (done.bars, done.empty_to_ms, source.asked) == (300, at(20_000), [(-400_000, 20_300)])
    assert covered(work, bitcoin) == [(20_000, 20_300)]
    source.asked.clear()
    again = fetch(work, bitcoin, -300_000, 20_300)
    assert (again.bars, again.empty_to_ms, source.asked) == (300, at(20_000), [])


def test_a_gap_in_the_exchanges_own_list_is_claimed(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    source.absent = [range(600, 1400)]
    done = fetch(work, bitcoin, 0, 2500)
    assert (done.state, done.bars) == ("done", 1700)
    assert source.asked == [(0, 1800), (1800, 2500)]
    assert covered(work, bitcoin) == [(0, 2500)]


def test_a_young_bar_that_is_missing_is_waited_for(
    work: Backfill, source: Source, bitcoin: Instrument, clock: Clock
) -> None:
    clock.now_ms = at(120) + 30_000
    source.absent = [range(40, 42), range(118, 200)]
    wanted = work.request(bitcoin, M1, at(0), None)
    assert not work.run(wanted)
    waits = get(work, wanted)
    assert (waits.state, waits.cursor_ms, waits.hi_ms) == ("waiting", at(118), at(120))
    assert waits.error == "the exchange has not listed the newest bars yet" and covered(work, bitcoin) == [(0, 118)]
    assert work.due() == []
    free(work)
    source.absent = [range(40, 42)]
    assert work.due() == [wanted]
    work.run(wanted)
    assert get(work, wanted).state == "done" and len(stored(work, bitcoin)) == 118
    assert covered(work, bitcoin) == [(0, 120)]


def test_a_long_wait_is_handed_on_and_a_short_one_slept(
    work: Backfill, source: Source, bitcoin: Instrument, parts: Platform
) -> None:
    source.errors = [RateLimited("slow down", retry_after_s=0.05), RateLimited("too many requests", retry_after_s=60)]
    limited, other = (work.request(item, M1, at(0), at(1200)) for item in (bitcoin, named(parts, "ETH/USDT")))
    assert work.due() == [limited, other]
    assert not work.run(limited)
    waits = get(work, limited)
    assert (waits.state, waits.error) == ("waiting", "too many requests")
    assert waits.lease_us is not None and 59e6 < waits.lease_us - waits.updated_ms * 1000 < 61e6
    work.run(other)
    assert get(work, other).state == "done" and work.due() == []
    free(work)
    assert work.due() == [limited]
    work.run(limited)
    assert get(work, limited).state == "done" and get(work, limited).error is None


@pytest.mark.parametrize("error", [Forbidden("no subscription for sip"), UnknownInstrument("never heard of it")])
def test_a_refusal_is_final_and_in_the_exchanges_words(
    work: Backfill, source: Source, bitcoin: Instrument, error: SourceError | UnknownInstrument
) -> None:
    source.errors = [error]
    failed = fetch(work, bitcoin, 0, 10)
    assert (failed.state, failed.error) == ("failed", str(error)) and work.due() == []


def test_a_source_that_is_away_is_asked_again(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    source.errors = [SourceAway("no answer")]
    waits = fetch(work, bitcoin, 0, 10)
    assert (waits.state, waits.error) == ("waiting", "no answer")
    work.run(waits.id)
    assert get(work, waits.id).state == "done"


def test_cancelled_within_a_chunk(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    wanted = work.request(bitcoin, M1, at(0), at(5000))
    source.meanwhile = lambda: len(source.asked) == 2 and work.cancel(wanted)
    work.run(wanted)
    ended = get(work, wanted)
    assert (ended.state, ended.bars, len(source.asked)) == ("cancelled", 1000, 2)
    assert covered(work, bitcoin) == [(0, 1000)] and len(stored(work, bitcoin)) == 1000
    assert not work.cancel(wanted) and not work.cancel(999_999) and work.due() == []
    work.run(wanted)
    assert len(source.asked) == 2


def test_one_worker_at_a_time_and_a_dead_ones_place_is_taken(
    work: Backfill, source: Source, bitcoin: Instrument
) -> None:
    """The first hangs in its request; a second finds the place taken; once the lease is over it takes it."""
    wanted = work.request(bitcoin, M1, at(0), at(3000))
    seen: list[int] = []

    def second() -> None:
        source.meanwhile = lambda: None
        work.run(wanted)
        seen.append(len(source.asked))
        free(work)
        work.run(wanted)

    source.meanwhile = second
    work.run(wanted)
    assert seen == [1]
    assert source.asked == [(0, 1000), (0, 1000), (1000, 2000), (2000, 3000)]  # the first one's page is dropped
    assert get(work, wanted).state == "done" and get(work, wanted).bars == 3000


def test_of_two_that_overlap_one_waits_for_the_other(work: Backfill, source: Source, bitcoin: Instrument) -> None:
    first, second = work.request(bitcoin, M1, at(0), at(2000)), work.request(bitcoin, M1, at(500), at(2500))

    def beside() -> None:
        source.meanwhile = lambda: None
        work.run(second)
        assert get(work, second).state == "waiting" and len(source.asked) == 1

    source.meanwhile = beside
    work.run(first)
    free(work)
    work.run(second)
    assert source.asked == [(0, 1000), (1000, 2000), (2000, 2500)]
    assert get(work, second).bars == 2000


def test_turns_go_round(work: Backfill, parts: Platform, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five that each need three turns: with two at work at once, none is ahead of another by more than two."""
    monkeypatch.setattr(engine_module, "SLICE_S", 0.0)
    monkeypatch.setattr(engine_module, "MOST", 2)
    with parts.engine.begin() as connection:
        five = [item for item in catalog.instruments(connection) if item.exchange == "binance"][:5]
    ids = [work.request(item, M1, at(0), at(2500)) for item in five]
    turns: list[int] = []
    while due := work.due():
        assert len(due) <= 2 and work.due() == []
        for backfill_id in due:
            work.run(backfill_id)
            turns.append(backfill_id)
        counts = [turns.count(i) for i in ids]
        assert max(counts) - min(counts) <= 2
    assert all(get(work, i).state == "done" for i in ids)
    assert len(turns) == 15


def test_stocks_in_windows_up_to_what_is_settled(work: Backfill, parts: Platform, source: Source, clock: Clock) -> None:
    """Quiet minutes have no bar, and are no reason to ask again; the newest half minute is not settled yet."""
    apple = named(parts, "AAPL")
    source.absent = [range(100), range(700, 20_000)]
    done = fetch(work, apple, 0, 20 * 1440)
    assert done.hi_ms == NOW - MINUTE_MS  # half a minute is not settled
    assert (done.state, done.bars) == ("done", 600 + 20 * 1440 - 1 - 20_000)
    assert source.asked == [(0, 14 * 1440), (14 * 1440, 20 * 1440 - 1)]
    assert covered(work, apple) == [(0, 20 * 1440 - 1)]
    source.asked.clear()
    assert fetch(work, apple, 0, 20 * 1440).bars == done.bars and source.asked == []
    with work.engine.begin() as connection:
        holes.record(connection, apple.id, at(300), at(310), "outage")
        change = "UPDATE candles_1m SET state = 1 WHERE time = to_timestamp(:t)"
        connection.execute(sa.text(change), {"t": at(650) / 1000})
    fetch(work, apple, 0, 20 * 1440)
    assert source.asked == [(300, 651)]
    rows = stored(work, apple)
    assert {one.origin for one in rows} == {Origin.EXCHANGE}


def test_daily_bars_of_stocks_are_the_sources_own(work: Backfill, parts: Platform, source: Source) -> None:
    apple = named(parts, "AAPL")
    fetch(work, apple, 0, 5 * 1440)
    source.asked.clear()
    assert fetch(work, apple, 0, 5 * 1440, D1).bars == 5
    assert source.asked == [(0, 5 * 1440)] and covered(work, apple, D1) == [(0, 5 * 1440)]
    with work.engine.begin() as connection:
        marks = connection.execute(sa.text("SELECT DISTINCT stage FROM touched")).scalars().all()
    assert sorted(marks) == ["indicators", "rollup"]


def test_longer_bars_are_made_of_longer_ones(work: Backfill, parts: Platform, bitcoin: Instrument) -> None:
    """Of a stock's they are not: without its minutes nobody knows whether such a bar is complete."""
    assert fetch(work, bitcoin, 0, 30 * 60, H1).bars == 30
    assert fetch(work, named(parts, "AAPL"), 0, 30 * 60, H1).bars == 30
    with work.engine.begin() as connection:
        query = "SELECT DISTINCT symbol, stage FROM touched JOIN instruments i ON i.id = instrument_id ORDER BY 1"
        marks = [tuple(row) for row in connection.execute(sa.text(query))]
    assert marks == [("AAPL", "indicators"), ("BTC/USDT", "rollup")]


def test_the_day_of_a_session_that_is_over_is_there_before_midnight(
    work: Backfill, parts: Platform, source: Source, clock: Clock
) -> None:
    """And where the source has not made it yet, the day is not claimed but asked for again."""
    apple = named(parts, "AAPL")
    clock.now_ms = T0 + 4 * DAY_MS + 21 * 3_600_000
    source.absent = [range(4 * 1440, 5 * 1440)]
    with work.engine.begin() as connection:
        asked = backfills.create(connection, apple.id, D1, T0, T0 + 5 * DAY_MS, asked_by="daily")
    work.run(asked)
    waits = get(work, asked)
    assert (waits.state, waits.bars, waits.error) == ("waiting", 4, "the exchange has not listed the newest bars yet")
    assert covered(work, apple, D1) == [(0, 4 * 1440)]
    free(work)
    source.absent = []
    work.run(asked)
    assert (get(work, asked).state, get(work, asked).bars) == ("done", 5)
    assert covered(work, apple, D1) == [(0, 5 * 1440)] and source.asked[-1] == (4 * 1440, 5 * 1440)


def test_yahoo_reaches_back_so_far(work: Backfill, parts: Platform, source: Source, clock: Clock) -> None:
    turkish = named(parts, "THYAO.IS")
    clock.now_ms = T0 + 60 * DAY_MS
    source.absent = [range(day * 1440, day * 1440 + 900) for day in range(60)]
    oldest = 31 * 1440 + 1
    done = fetch(work, turkish, 0, 40 * 1440)
    assert (done.state, done.empty_to_ms) == ("done", at(oldest))
    assert source.asked == [(oldest, oldest + 7 * 1440), (oldest + 7 * 1440, 40 * 1440)]
    assert covered(work, turkish) == [(oldest, 40 * 1440)]
    waits = work.request(turkish, M1, at(0), None)
    assert get(work, waits).hi_ms == clock.now_ms - 960_000  # delayed by 15 minutes, and one to settle


def test_longer_timeframes_are_asked_for_where_minutes_do_not_reach(
    work: Backfill, parts: Platform, source: Source, bitcoin: Instrument
) -> None:
    fetch(work, bitcoin, 1430, 4000)
    while parts.settle.run():
        continue
    assert {one.state for one in stored(work, bitcoin, H1)[1:-1]} == {State.VERIFIED}
    source.asked.clear()
    assert fetch(work, bitcoin, 1440, 3960, H1).bars == 42 and source.asked == []  # the minutes prove these hours
    assert fetch(work, bitcoin, 0, 3960, H1).bars == 66 and source.asked == [(0, 1440)]
    assert covered(work, bitcoin, H1) == [(0, 1440)]
    origins = [one.origin for one in stored(work, bitcoin, H1)]
    assert origins == [Origin.EXCHANGE] * 24 + [Origin.ROLLUP] * 43
    with work.engine.begin() as connection:
        outbox.mark(connection, "rollup", [Span(bitcoin.id, at(1430), at(3990))])
    while parts.settle.run():
        continue
    first = stored(work, bitcoin, H1)[23]  # the minutes hold ten of its sixty: the exchange's own bar stays
    assert (first.state, first.origin) == (State.VERIFIED, Origin.EXCHANGE)


def test_progress_is_written_down(work: Backfill, bitcoin: Instrument) -> None:
    wanted = work.request(bitcoin, M1, at(0), at(10), asked_by="daily")
    assert (get(work, wanted).asked_by, get(work, wanted).started_ms) == ("daily", None)
    work.run(wanted)
    done = get(work, wanted)
    assert done.started_ms is not None and done.updated_ms >= done.started_ms and done.pace.bars == 10
