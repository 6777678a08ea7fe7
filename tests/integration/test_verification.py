"""Verification on a real PostgreSQL: agreement, disagreement, newer words, history, and stocks without flat bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.history import CANCELLED, UNEQUAL
from app.domain.instruments import Instrument
from app.domain.official import Doubt, OfficialBar, OfficialBatch
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.storage import catalog, holes, ledger
from tests.factories import bars, settle

T0 = 1_570_752_000_000  # 2019-10-11 00:00 UTC
E8 = 10**8


@dataclass
class Shelf:
    """A history that has just these bars."""

    bars: list[Bar] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        self.asked.append((start_ms, end_ms))
        mine = [bar for bar in self.bars if bar.instrument_id == instrument.id and start_ms <= bar.time_ms < end_ms]
        return sorted(mine, key=lambda bar: bar.time_ms)[:limit]


class Wall:
    """A clock that stands."""

    speed = 1.0

    def __init__(self, second: float) -> None:
        self.second = second

    def now_us(self) -> int:
        return T0 * 1000 + int(self.second * 1_000_000)


@dataclass
class Core:
    platform: Platform
    shelf: Shelf
    clock: Wall
    instrument: int
    runs: int = 0

    def feed(self, *trades: Trade, upto_s: float, n: int, exchange: str = "binance", run: int = 7) -> None:
        subscribed = ((self.instrument, T0 * 1000),) if n == 1 else None
        upto_us = T0 * 1000 + int(upto_s * 1_000_000)
        mark = Mark(run, n, upto_us, exchange, since_us=T0 * 1000, subscribed=subscribed)
        self.platform.ingest.apply(TradeBatch.of(trades, mark=mark))

    def trade(self, second: float, seq: int, price: float = 1.0) -> Trade:
        return Trade(self.instrument, T0 * 1000 + int(second * 1_000_000), seq, seq, round(price * E8), E8, True)

    def say(self, *official: OfficialBar, doubts: Sequence[Doubt] = (), exchange: str = "binance") -> None:
        batch = OfficialBatch(exchange, official, doubts)
        self.platform.verify.receive(OfficialBatch.decode(batch.encode()))

    def follow(self) -> None:
        self.platform.closing.run()
        self.platform.verify.run()
        settle(self.platform)
        self.platform.verify.run()
        settle(self.platform)

    def repair(self) -> None:
        """Closes the holes that the beginning of a run left."""
        while self.platform.repair.run():
            continue
        settle(self.platform)

    def stored(self, tf: str = "1m") -> dict[int, Bar]:
        return {(bar.time_ms - T0) // 60_000: bar for bar in bars(self.platform.engine, self.instrument, tf)}

    def differences(self) -> list[tuple[int, str, list[str]]]:
        query = "SELECT (extract(epoch FROM time) * 1000)::bigint, source, fields FROM differences ORDER BY id"
        with self.platform.engine.begin() as connection:
            return [((row[0] - T0) // 60_000, row[1], row[2]) for row in connection.execute(sa.text(query))]

    def sql(self, text: str) -> list[tuple[object, ...]]:
        with self.platform.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]

    def counters(self) -> dict[str, int]:
        found = self.platform.redis.hgetall("system:counters")
        return {key.decode(): int(value) for key, value in found.items()}  # type: ignore[union-attr]


def _core(settings: Settings, exchange: str, symbol: str) -> Core:
    changed = settings.model_copy(update={"start_backfill_hours": 0, "feed_wait_s": 0.3})
    platform, shelf, clock = Platform(changed, "tests"), Shelf(), Wall(600)
    platform.__dict__["clock"] = clock
    platform.__dict__["history"] = lambda instrument: shelf
    tables = "feeds feed_batches touched holes ledger coverage official_1m official_rollups differences settled"
    with platform.engine.begin() as connection:
        for table in [*tables.split(), *(f'"candles_{tf.value}"' for tf in Timeframe)]:
            connection.execute(sa.text(f"TRUNCATE {table}"))
        instrument = catalog.add(connection, exchange, symbol).id
    return Core(platform, shelf, clock, instrument)


@pytest.fixture
def binance(settings: Settings, redis_client: redis.Redis) -> Iterator[Core]:
    core = _core(settings, "binance", "AAA/USDT")
    yield core
    core.platform.engine.dispose()


@pytest.fixture
def alpaca(settings: Settings, redis_client: redis.Redis) -> Iterator[Core]:
    core = _core(settings, "alpaca", "ZZZ")
    yield core
    core.platform.engine.dispose()


def official(
    core: Core, minute: int, price: float, n: int, *, ids: tuple[int, int] | None = None, **more: object
) -> OfficialBar:
    amount = Decimal(n)
    return OfficialBar(
        core.instrument, Timeframe.M1, T0 + minute * MINUTE_MS, price, price, price, price, amount,
        amount * Decimal(str(price)), amount, n, *(ids or (None, None)),
    )._replace(**more)  # type: ignore[arg-type]  # fmt: skip


class TestTheStreamsWord:
    def test_an_equal_bar_verifies_ours_only_after_it_closed(self, binance: Core) -> None:
        binance.feed(binance.trade(5, 1), binance.trade(6, 2), upto_s=30, n=1)
        binance.say(official(binance, 0, 1.0, 2, ids=(1, 2)))
        binance.platform.verify.run()
        assert binance.stored()[0].state is State.OPEN, "the word came before the minute was over for us"
        binance.feed(upto_s=70, n=2)
        binance.follow()
        bar = binance.stored()[0]
        assert (bar.state, bar.revision, bar.origin) == (State.VERIFIED, 0, Origin.TRADES)
        assert binance.differences() == []
        assert binance.sql("SELECT count(*) FROM official_1m") == [(0,)]
        assert binance.counters()["verified"] == 1

    def test_a_different_one_replaces_ours_and_everything_follows(self, binance: Core) -> None:
        binance.feed(*(binance.trade(60 * m + 5, m + 1, m + 1) for m in range(5)), upto_s=320, n=1)
        binance.follow()
        assert binance.stored("5m")[0].high == 5.0
        rest = [official(binance, m, m + 1, 1, ids=(m + 1, m + 1)) for m in range(4)]
        binance.say(*rest, official(binance, 4, 9.0, 2, ids=(5, 6)))
        binance.follow()
        bar = binance.stored()[4]
        assert (bar.close, bar.trade_count, bar.state, bar.revision) == (9.0, 2, State.VERIFIED, 1)
        five = binance.stored("5m")[0]
        assert (five.high, five.trade_count, five.state) == (9.0, 6, State.VERIFIED)
        assert five.revision == 1
        fields = ["open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trade_count"]
        assert binance.differences() == [(4, "stream", fields)]
        with binance.platform.engine.begin() as connection:
            assert ledger.gaps(connection) == []
        again = binance.platform.ingest.apply(TradeBatch.of([binance.trade(250, 6, 9.0)]))
        assert (again.accepted, again.known) == (0, 1), "the ids of the replacing bar count as in"

    def test_a_minute_we_never_saw_is_added_once_our_feed_has_passed_it(self, binance: Core) -> None:
        binance.feed(binance.trade(5, 1), upto_s=50, n=1)
        binance.say(official(binance, 1, 2.0, 3, ids=(2, 4)))
        binance.follow()
        assert 1 not in binance.stored()
        binance.feed(upto_s=125, n=2)
        binance.follow()
        assert (binance.stored()[1].trade_count, binance.stored()[1].state) == (3, State.VERIFIED)

    def test_longer_bars_of_the_exchange_check_the_roll_ups(self, binance: Core) -> None:
        binance.feed(*(binance.trade(60 * m + 5, m + 1, 2.0) for m in range(5)), upto_s=320, n=1)
        binance.say(*(official(binance, m, 2.0, 1, ids=(m + 1, m + 1)) for m in range(5)))
        binance.say(official(binance, 0, 2.0, 4, timeframe=Timeframe.M5))
        binance.follow()
        assert binance.differences()[0][2] == ["volume", "quote_volume", "taker_buy_volume", "trade_count"]
        assert (UNEQUAL,) in binance.sql("SELECT cause FROM holes WHERE repaired IS NULL")
        assert binance.sql("SELECT count(*) FROM official_rollups") == [(0,)]


class TestHistorysWord:
    def test_bars_the_stream_said_nothing_of_are_asked_for_once(self, binance: Core) -> None:
        binance.feed(*(binance.trade(60 * m + 5, m + 1) for m in range(3)), upto_s=200, n=1)
        binance.repair()
        binance.follow()
        binance.sql("UPDATE candles_1m SET updated = now() - interval '1 hour' RETURNING 1")
        binance.shelf.bars = [official(binance, m, 1.0, 1).bar() for m in range(2)]
        binance.shelf.bars.append(official(binance, 2, 4.0, 1).bar())
        binance.shelf.asked.clear()
        binance.platform.sweep.run()
        assert binance.shelf.asked == [(T0, T0 + 3 * MINUTE_MS)]
        states = {minute: (bar.state, bar.close) for minute, bar in binance.stored().items()}
        assert states == {0: (State.VERIFIED, 1.0), 1: (State.VERIFIED, 1.0), 2: (State.VERIFIED, 4.0)}
        assert [(minute, source) for minute, source, _ in binance.differences()] == [(2, "history")]
        binance.platform.sweep.run()
        assert len(binance.shelf.asked) == 1

    def test_a_history_that_fails_rests_one_instrument_only(self, binance: Core) -> None:
        binance.feed(binance.trade(5, 1), upto_s=90, n=1)
        binance.follow()
        binance.sql("UPDATE candles_1m SET updated = now() - interval '1 hour' RETURNING 1")
        from app.errors import SourceAway

        def away(*args: object) -> list[Bar]:
            binance.shelf.asked.append((0, 0))
            raise SourceAway("nobody there")

        binance.shelf.klines = away  # type: ignore[method-assign,assignment]
        binance.platform.sweep.run()
        binance.platform.sweep.run()
        assert len(binance.shelf.asked) == 1, "it rests before it is asked again"
        assert binance.stored()[0].state is State.CLOSED


class TestQuietMinutesOfStocks:
    def test_a_minute_lost_inside_a_connection_comes_back(self, alpaca: Core) -> None:
        """A message that gets lost while the socket stays open leaves no gap in ids: only history knows of it."""
        alpaca.feed(alpaca.trade(65, 1), upto_s=1003, n=1, exchange="alpaca")
        alpaca.shelf.bars = [official(alpaca, 1, 1.0, 1).bar()]
        alpaca.repair()
        alpaca.follow()
        alpaca.shelf.bars.append(official(alpaca, 9, 4.0, 2).bar())
        alpaca.clock.second = 1100
        alpaca.shelf.asked.clear()
        alpaca.platform.sweep.run()
        settle(alpaca.platform)
        assert alpaca.stored()[9].state is State.VERIFIED
        assert alpaca.stored("5m")[5].close == 4.0
        asked = len(alpaca.shelf.asked)
        alpaca.platform.sweep.run()
        assert len(alpaca.shelf.asked) == asked, "not again before a quarter of an hour has passed"


class TestStocks:
    def print(self, core: Core, second: float, seq: int, price: float = 1.0) -> Trade:
        return core.trade(second, seq, price)._replace(taker_buy=False)

    def test_quiet_minutes_have_no_bar_and_leave_longer_ones_whole(self, alpaca: Core) -> None:
        alpaca.feed(self.print(alpaca, 65, 1), self.print(alpaca, 190, 2, 3.0), upto_s=200, n=1, exchange="alpaca")
        alpaca.shelf.bars = [official(alpaca, 1, 1.0, 1).bar()]
        alpaca.repair()
        alpaca.follow()
        assert set(alpaca.stored()) == {1, 3}
        assert alpaca.stored("5m")[0].state is State.OPEN
        alpaca.feed(upto_s=303, n=2, exchange="alpaca")
        alpaca.follow()
        assert set(alpaca.stored()) == {1, 3}, "no flat bars"
        five = alpaca.stored("5m")[0]
        assert (five.state, five.open, five.close, five.trade_count) == (State.CLOSED, 1.0, 3.0, 2)
        alpaca.say(official(alpaca, 3, 3.0, 1), official(alpaca, 1, 1.0, 1), exchange="alpaca")
        alpaca.follow()
        assert alpaca.stored("5m")[0].state is State.VERIFIED
        assert alpaca.sql("SELECT count(*) FROM holes WHERE repaired IS NULL") == [(0,)]

    def test_an_open_hole_keeps_a_longer_bar_open_until_it_is_repaired(self, alpaca: Core) -> None:
        alpaca.feed(self.print(alpaca, 65, 1), upto_s=70, n=1, exchange="alpaca")
        alpaca.repair()
        with alpaca.platform.engine.begin() as connection:
            holes.record(connection, alpaca.instrument, T0 + 3 * MINUTE_MS, T0 + 4 * MINUTE_MS, "batch lost")
        alpaca.feed(upto_s=310, n=2, exchange="alpaca")
        alpaca.follow()
        assert alpaca.stored("5m")[0].state is State.OPEN
        alpaca.shelf.bars = [official(alpaca, m, 1.0 + m, 1).bar() for m in (1, 3)]
        alpaca.repair()
        five = alpaca.stored("5m")[0]
        assert (five.state, five.high) == (State.CLOSED, 4.0)

    def test_a_newer_word_replaces_a_verified_bar(self, alpaca: Core) -> None:
        alpaca.feed(self.print(alpaca, 65, 1), upto_s=130, n=1, exchange="alpaca")
        alpaca.say(official(alpaca, 1, 1.0, 1), exchange="alpaca")
        alpaca.follow()
        assert alpaca.stored()[1].state is State.VERIFIED
        alpaca.say(official(alpaca, 1, 1.5, 2, revised=True), exchange="alpaca")
        alpaca.follow()
        bar = alpaca.stored()[1]
        assert (bar.close, bar.trade_count, bar.revision, bar.state) == (1.5, 2, 1, State.VERIFIED)
        assert alpaca.differences()[0][1] == "updated"
        alpaca.say(official(alpaca, 1, 1.0, 1), exchange="alpaca")

    def test_a_cancelled_only_trade_takes_its_bars_back(self, alpaca: Core) -> None:
        alpaca.feed(self.print(alpaca, 65, 1), upto_s=310, n=1, exchange="alpaca")
        alpaca.say(official(alpaca, 1, 1.0, 1), exchange="alpaca")
        alpaca.shelf.bars = [official(alpaca, 1, 1.0, 1).bar()]
        alpaca.repair()
        alpaca.follow()
        assert alpaca.stored("5m")[0].state is State.VERIFIED
        while alpaca.platform.derive.run(0).marks:
            continue
        alpaca.shelf.bars.clear()
        minute = T0 + MINUTE_MS
        alpaca.say(doubts=[Doubt(alpaca.instrument, minute, minute + MINUTE_MS, CANCELLED)], exchange="alpaca")
        alpaca.repair()
        alpaca.follow()
        assert alpaca.stored() == {}
        assert alpaca.stored("5m") == {}, "as if the trade had never been"
        assert alpaca.sql("SELECT count(*) FROM indicators_1m") == [(0,)]
        assert alpaca.sql("SELECT count(*) FROM indicators_5m") == [(0,)]
        assert alpaca.differences() == [(1, "history", ["missing"])]
        assert alpaca.counters()["cancels"] == 1

    def test_a_minute_of_odd_lots_only_is_no_bar(self, alpaca: Core) -> None:
        odd = self.print(alpaca, 65, 1)._replace(updates=4)
        alpaca.feed(odd, upto_s=70, n=1, exchange="alpaca")
        assert alpaca.stored() == {}
        alpaca.feed(self.print(alpaca, 66, 2, 5.0), upto_s=72, n=2, exchange="alpaca")
        bar = alpaca.stored()[1]
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count) == (5.0, 5.0, 5.0, 5.0, 2, 2)
        alpaca.feed(self.print(alpaca, 130, 3)._replace(updates=4), upto_s=190, n=3, exchange="alpaca")
        alpaca.follow()
        assert set(alpaca.stored()) == {1}
        assert alpaca.sql("SELECT count(*) FROM candles_1m") == [(1,)], "dropped when the minute was over"

    def test_the_exchanges_bar_takes_the_place_of_odd_lots(self, alpaca: Core) -> None:
        """The print with a price was lost; only the odd lot before it came."""
        alpaca.feed(self.print(alpaca, 5, 1)._replace(updates=4), upto_s=20, n=1, exchange="alpaca")
        alpaca.shelf.bars = [official(alpaca, 0, 5.0, 2).bar()]
        alpaca.repair()
        assert (alpaca.stored()[0].close, alpaca.stored()[0].state) == (5.0, State.VERIFIED)

    def test_the_exchanges_own_day_gives_way_to_no_roll_up(self, alpaca: Core) -> None:
        from app.storage import candles

        day = replace(official(alpaca, 0, 8.0, 50).bar(), close=9.0, high=9.5)
        with alpaca.platform.engine.begin() as connection:
            candles.replace(connection, [day], tf=Timeframe.D1, flats=False)
        alpaca.feed(self.print(alpaca, 65, 1), upto_s=86_500, n=1, exchange="alpaca")
        alpaca.say(official(alpaca, 1, 1.0, 1), exchange="alpaca")
        alpaca.repair()
        alpaca.follow()
        assert alpaca.stored("1d")[0].close == 9.0


def test_after_corrections_all_is_as_if_the_wrong_prints_had_never_been(alpaca: Core) -> None:
    """One stock heard two wrong prints that were taken back, its twin only the right ones."""
    platform = alpaca.platform
    with platform.engine.begin() as connection:
        twin = catalog.add(connection, "alpaca", "YYZ").id
    clean = replace(alpaca, instrument=twin)
    prices = [100 + (7 * m * m) % 23 for m in range(60)]
    right = [official(alpaca, m, price, 1) for m, price in enumerate(prices)]
    wrong = {20: 500.0, 41: 1.0}
    for core, run in ((alpaca, 51), (clean, 52)):
        prints = [core.trade(60 * m + 5, m + 1, price)._replace(taker_buy=False) for m, price in enumerate(prices)]
        if core is alpaca:
            prints += [core.trade(60 * m + 6, 1000 + m, price)._replace(taker_buy=False) for m, price in wrong.items()]
        core.feed(*prints, upto_s=3660, n=1, exchange="alpaca", run=run)
    alpaca.follow()
    first = [bar for m, bar in enumerate(right) if m not in wrong]
    spoilt = [
        official(alpaca, m, prices[m], 2, high=max(prices[m], p), low=min(prices[m], p), close=p)
        for m, p in wrong.items()
    ]
    alpaca.say(*first, *spoilt, exchange="alpaca")
    alpaca.say(*(bar._replace(instrument_id=twin) for bar in right), exchange="alpaca")
    alpaca.follow()
    while platform.derive.run(0).marks:
        continue
    assert alpaca.stored("5m")[20].high == 500.0
    # The first is taken back by a cancel, which history knows of; the second by an updatedBar.
    both = [bar.bar() for bar in right]
    alpaca.shelf.bars = [bar if bar.time_ms != T0 + 41 * MINUTE_MS else spoilt[1].bar() for bar in both]
    alpaca.shelf.bars += [bar._replace(instrument_id=twin).bar() for bar in right]
    alpaca.clock.second = 3700
    minute = T0 + 20 * MINUTE_MS
    alpaca.say(doubts=[Doubt(alpaca.instrument, minute, minute + MINUTE_MS, CANCELLED)], exchange="alpaca")
    alpaca.repair()
    alpaca.say(right[41]._replace(revised=True), exchange="alpaca")
    alpaca.follow()
    while platform.derive.run(0).marks:
        continue
    for tf in Timeframe:
        assert _told(alpaca, tf) == _told(clean, tf), tf
    assert alpaca.stored()[20].revision == 1 and alpaca.stored()[41].revision == 1


def _told(core: Core, tf: Timeframe) -> list[tuple[object, ...]]:
    """Bars and indicators, without what tells one instrument or revision from another."""
    where = f"WHERE instrument_id = {core.instrument} ORDER BY time"
    stored = core.sql(
        f'SELECT time, open, high, low, close, volume, trade_count, state FROM "candles_{tf.value}" {where}'
    )
    values = core.sql(f"SELECT to_jsonb(i) - 'instrument_id' FROM \"indicators_{tf.value}\" i {where}")
    return [*stored, *values]
