"""Polling on a real PostgreSQL and Redis, against Yahoo's door with a clock the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from aiohttp import web

from app.bootstrap import platform
from app.cache import health
from app.cache.paces import Paces
from app.cache.publisher import RedisPublisher
from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.local.runfile import sandbox_urls
from app.services.calendars import Calendars
from app.services.daily import Daily
from app.services.polling import Polling
from app.sources.calendars import sessions as find_sessions
from app.sources.yahoo import YahooHistory
from app.storage import backfills, candles, catalog, holes, outbox, sessions, settled
from tests.sandbox import start_sandbox
from tests.yahoo_door import MINUTE_MS, Door, at, open_door

SYMBOLS = ("THYAO.IS", "SISE.IS", "GARAN.IS")


@dataclass
class Rig:
    """A poller, its door and its database; `wall` is the poller's wall time in s, which stands still by itself."""

    door: Door
    engine: sa.Engine
    redis: redis.Redis
    polling: Polling
    source: YahooHistory
    wall: list[float] = field(default_factory=lambda: [1000.0])

    @property
    def instruments(self) -> dict[str, Instrument]:
        with self.engine.begin() as connection:
            found = catalog.instruments(connection, active_only=True)
        return {item.symbol: item for item in found if item.exchange is Exchange.YAHOO}

    def tick(self, now: str | None = None, *, wall_s: float = 5) -> list[str]:
        """One turn of the beat, some seconds after the last; returns the charts asked for."""
        if now is not None:
            self.door.now_ms = at(now)
        self.wall[0] += wall_s
        self.polling.run()
        return sorted(self.door.charts())

    def every(self, poll_s: float) -> None:
        """Polls so often from now on."""
        self.polling = replace(self.polling, poll_s=poll_s)

    def through(self, start: str, end: str, *, step_s: int = 60) -> dict[str, list[str]]:
        """Ticks from start to end; the times at which a chart was asked for, and whose."""
        asked = {}
        for now_ms in range(at(start), at(end), step_s * 1000):
            self.door.now_ms = now_ms
            if charts := self.tick():
                asked[f"{now_ms // 3_600_000 % 24:02}:{now_ms // MINUTE_MS % 60:02}"] = charts
        return asked

    def stored(self, symbol: str, start: str, end: str) -> list[Bar]:
        with self.engine.begin() as connection:
            span = {"start_ms": at(start), "end_ms": at(end)}
            return candles.read_many(connection, [self.instruments[symbol].id], Timeframe.M1, **span)

    def true(self, symbol: str, start: str, end: str) -> bool:
        """Whether exactly the true bars are stored, all verified."""
        ours = self.stored(symbol, start, end)
        truth, unit = self.door.truth(symbol, at(start), at(end)), Decimal(10**8)
        assert truth
        assert {bar.state for bar in ours} <= {State.VERIFIED}
        rows = [(b.time_ms, *(Decimal(repr(p)) for p in (b.open, b.high, b.low, b.close)), b.volume) for b in ours]
        return rows == [
            (t.time_ms, *(p / unit for p in (t.open, t.high, t.low, t.close)), t.volume / unit) for t in truth
        ]

    def holes(self, *, cause: str = "not polled") -> list[tuple[str, str, str, str | None]]:
        """The open holes: symbol, from, to, error."""
        names = {item.id: item.symbol for item in self.instruments.values()}
        clock = "to_char({} AT TIME ZONE 'UTC', 'DD HH24:MI')".format
        query = sa.text(
            f"SELECT instrument_id, {clock('lo')}, {clock('hi')}, error FROM holes "
            "WHERE repaired IS NULL AND cause = :cause ORDER BY instrument_id, lo"
        )
        with self.engine.begin() as connection:
            rows = connection.execute(query, {"cause": cause}).all()
        return [(names[row[0]], row[1], row[2], row[3]) for row in rows]

    def until(self, symbol: str) -> int:
        with self.engine.begin() as connection:
            number = self.instruments[symbol].id
            return settled.until(connection, [number])[number]

    def covered(self, symbol: str) -> list[tuple[int, int | None]]:
        with self.engine.begin() as connection:
            return holes.covered(connection, self.instruments[symbol].id)

    def health(self) -> dict[str, Any]:
        return health.read(self.redis)["poller-yahoo"]


@pytest.fixture(scope="module")
def calendar_days(engine: sa.Engine) -> None:
    """The sessions of the watchlist, as of October 2026."""

    class Then:
        def now_us(self) -> int:
            return at("2026-10-20T00:00") * 1000

    keeper = Calendars(engine, sessions, settled, catalog.instruments, find_sessions, Then())
    assert keeper.run() > 2000
    assert keeper.run() == 0


@pytest.fixture
def door() -> Iterator[Door]:
    with open_door(*SYMBOLS, now="2026-10-27T06:00", delay_s=900) as found:
        yield found


@pytest.fixture
def rig(
    door: Door, settings: Settings, engine: sa.Engine, redis_client: redis.Redis, calendar_days: None, tmp_path: Path
) -> Iterator[Rig]:
    with engine.begin() as connection:
        for table in ("candles_1m", "candles_5m", "candles_1d", "holes", "settled", "coverage", "backfills", "touched"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
        for item in catalog.instruments(connection):
            catalog.set_active(connection, item.id, item.symbol in SYMBOLS)
    own = settings.model_copy(update={"yahoo_api_url": door.url, "data_dir": tmp_path})
    source = YahooHistory(own, now_us=door.now_us)
    with engine.begin() as connection:
        for item in catalog.instruments(connection, active_only=True):  # yfinance asks for each time zone once
            source.klines(item, Timeframe.M1, at("2026-10-25T00:00"), at("2026-10-25T01:00"))
    door.charts()

    def watchlist() -> list[Instrument]:
        with engine.begin() as connection:
            return catalog.instruments(connection, active_only=True)

    wall = [1000.0]
    polling = Polling(
        engine, settled, candles, holes, outbox, backfills, sessions, watchlist, lambda item: source, door,
        RedisPublisher(redis_client), Paces(redis_client, "yahoo"),
        lambda facts: health.beat(redis_client, "poller-yahoo", facts), 300.0, 15.0, 72,
        wall_s=lambda: wall[0], draw=lambda: 0.0,
    )  # fmt: skip
    yield Rig(door, engine, redis_client, polling, source, wall)
    source.close()


def test_the_first_sight_of_an_instrument_asks_for_its_history(rig: Rig) -> None:
    assert rig.tick("2026-10-27T06:00") == []
    with rig.engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT timeframe, lo, hi, state FROM backfills")).all()
    assert len(rows) == 3
    assert {(row[0], round(row[1].timestamp() * 1000), round(row[2].timestamp() * 1000), row[3]) for row in rows} == {
        ("1m", at("2026-10-24T00:00"), at("2026-10-27T06:00"), "waiting")
    }
    rig.tick("2026-10-27T06:01")
    with rig.engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM backfills")).scalar() == 3
    assert rig.health()["feed"] == "closed"
    assert rig.health()["opens"] == at("2026-10-27T06:40")


def test_a_half_day_is_polled_inside_its_window_and_once_after_it_and_ends_true(rig: Rig) -> None:
    rig.every(1800)
    rig.tick("2026-10-27T20:00")
    asked = rig.through("2026-10-28T06:30", "2026-10-28T11:00", step_s=120)
    assert list(asked) == ["06:40", "07:10", "07:40", "08:10", "08:40", "09:10", "09:56"]
    assert all(charts == sorted(SYMBOLS) for charts in asked.values())  # one request each
    for symbol in SYMBOLS:
        assert rig.true(symbol, "2026-10-28T00:00", "2026-10-28T12:00")
        assert rig.until(symbol) == at("2026-10-30T06:40")  # the next day is a holiday
        assert rig.covered(symbol)[-1][1] == at("2026-10-30T06:40")
    assert rig.holes() == []
    assert rig.through("2026-10-28T11:00", "2026-10-30T06:40", step_s=3600) == {}
    bars = rig.stored("SISE.IS", "2026-10-28T06:55", "2026-10-28T09:40")
    assert 0 < len(bars) < 165  # quiet minutes have no bar, and are no hole
    quotes = rig.redis.hgetall("quotes")
    assert b"yahoo:SISE.IS" in quotes


def test_an_outage_is_a_hole_until_it_is_healed(rig: Rig) -> None:
    rig.tick("2026-10-26T06:39")
    rig.through("2026-10-26T06:40", "2026-10-26T10:00", step_s=1140)
    rig.door.instead = lambda request: web.Response(status=503, text="no")
    rig.door.now_ms = at("2026-10-27T08:00")
    assert rig.tick() == sorted(SYMBOLS)  # each is tried though the one before failed
    assert [hole[:3] for hole in rig.holes()] == [
        (symbol, *span)
        for symbol in ("THYAO.IS", "GARAN.IS", "SISE.IS")
        for span in (("26 09:34", "26 15:10"), ("27 06:40", "27 07:44"))
    ]
    assert rig.health()["feed"] == "down"
    assert "status 503" in rig.health()["error"]
    assert rig.tick(wall_s=4) == []  # not at once again
    rig.door.instead = None
    rig.wall[0] += 10
    assert rig.tick("2026-10-27T08:01") == sorted(SYMBOLS)  # one request an instrument heals it all
    assert rig.holes() == []
    assert all(rig.true(symbol, "2026-10-26T06:40", "2026-10-27T07:44") for symbol in SYMBOLS)
    assert rig.health()["feed"] == "connected"
    assert "error" not in rig.health()


def test_a_symbol_that_fails_stops_nobody_and_has_one_hole_that_grows(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.through("2026-10-27T06:40", "2026-10-27T07:56", step_s=1500)
    rig.every(900)
    rig.door.instead = lambda request: web.Response(status=500, text="no") if "GARAN" in request.path else None
    asked = rig.through("2026-10-27T08:00", "2026-10-27T09:00")
    (hole,) = rig.holes()
    assert hole[:2] == ("GARAN.IS", "27 07:39")
    assert "27 08:30" < hole[2] <= "27 08:44"
    assert hole[3] == "Yahoo failed with status 500 for GARAN.IS"
    assert rig.true("THYAO.IS", "2026-10-27T06:40", "2026-10-27T08:29")
    assert rig.until("GARAN.IS") < at("2026-10-27T08:00") < rig.until("THYAO.IS")
    assert sum("GARAN.IS" in charts for charts in asked.values()) < 20  # of sixty turns: it waits longer each time
    assert rig.health()["failing"] == 1
    rig.door.instead = None
    rig.wall[0] += 400
    rig.tick("2026-10-27T09:00")
    assert rig.holes() == []
    assert rig.true("GARAN.IS", "2026-10-27T06:40", "2026-10-27T08:44")


def test_an_unknown_symbol_is_told_in_yahoos_word(rig: Rig) -> None:
    with rig.engine.begin() as connection:
        ghost = catalog.add(connection, "yahoo", "GHOST.IS")
    rig.tick("2026-10-27T06:00")
    rig.tick("2026-10-27T08:00")
    assert "No data found" in rig.health()["error"]
    assert rig.true("THYAO.IS", "2026-10-27T07:00", "2026-10-27T07:44")
    with rig.engine.begin() as connection:
        catalog.set_active(connection, ghost.id, False)


def test_a_rate_limit_stops_the_round_for_all_processes(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.door.instead = lambda request: web.Response(status=429, text="no", headers={"Retry-After": "2"})
    assert len(rig.tick("2026-10-27T08:00")) == 1  # the others are not asked for
    assert rig.tick("2026-10-27T08:10") == []
    other = Paces(rig.redis, "yahoo")
    assert 0 < other.rest_s() <= 2
    assert "too many requests" in rig.health()["error"]
    rig.door.instead = None
    rig.redis.delete("poll-rest:yahoo")  # two seconds later
    assert rig.tick("2026-10-27T08:15") == sorted(SYMBOLS)
    assert rig.holes() == []


def test_two_pollers_at_once_ask_once(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.door.now_ms = at("2026-10-27T08:00")
    with settled.alone(rig.engine, 7020) as alone:
        assert alone
        assert rig.tick() == []
    assert rig.tick() == sorted(SYMBOLS)


def test_a_revised_bar_is_replaced_with_the_next_poll(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.door.halved = True
    rig.tick("2026-10-27T08:00")
    assert not rig.true("THYAO.IS", "2026-10-27T07:00", "2026-10-27T07:44")
    rig.door.halved = False
    rig.tick("2026-10-27T08:05")
    assert rig.true("THYAO.IS", "2026-10-27T07:00", "2026-10-27T07:49")
    revised = [bar for bar in rig.stored("THYAO.IS", "2026-10-27T07:00", "2026-10-27T07:49") if bar.revision]
    assert 0 < len(revised) <= 3
    with rig.engine.begin() as connection:
        before = len(outbox.take(connection, "rollup"))
    assert before
    rig.tick("2026-10-27T08:10")
    with rig.engine.begin() as connection:
        spans = outbox.take(connection, "rollup")
    # Only what is new or changed asks for its roll-ups.
    assert all(span.lo_ms >= at("2026-10-27T07:49") for span in spans)


def test_bars_that_yahoo_lists_late_come_and_reach_the_longer_bars(rig: Rig, settings: Settings) -> None:
    """Yahoo stands still for longer than a poll reaches back, and has the minutes in retrospect."""
    own = platform(settings, process="tests")

    def five_minutes() -> list[Decimal]:
        while own.settle.run():
            continue
        span = {"start_ms": at("2026-10-27T07:30"), "end_ms": at("2026-10-27T08:30")}
        with rig.engine.begin() as connection:
            found = candles.read_many(connection, [rig.instruments["THYAO.IS"].id], Timeframe.M5, **span)
        return [bar.volume for bar in found]

    rig.tick("2026-10-27T06:00")
    rig.tick("2026-10-27T07:50")
    rig.door.stands_ms = at("2026-10-27T07:50")
    for now in ("08:10", "08:30", "08:50", "09:10"):
        rig.tick(f"2026-10-27T{now}")
    assert rig.until("THYAO.IS") == at("2026-10-27T08:54")
    assert len(five_minutes()) == 1
    rig.door.stands_ms = None
    assert rig.tick("2026-10-27T09:15") == sorted(SYMBOLS)  # one request each
    assert all(rig.true(symbol, "2026-10-27T06:40", "2026-10-27T08:59") for symbol in SYMBOLS)
    span = at("2026-10-27T07:30"), at("2026-10-27T08:30")
    wanted = [bar.volume / Decimal(10**8) for bar in rig.door.truth("THYAO.IS", *span, 5 * MINUTE_MS)]
    assert five_minutes() == wanted
    own.engine.dispose()


def test_the_poll_after_the_close_asks_for_the_whole_day(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.tick("2026-10-27T12:00")
    rig.tick("2026-10-27T15:05")
    with rig.engine.begin() as connection:  # Yahoo had listed newer ones before them
        gone = "DELETE FROM candles_1m WHERE time >= '2026-10-27T08:00Z' AND time < '2026-10-27T08:20Z'"
        assert connection.execute(sa.text(gone)).rowcount
    assert rig.tick("2026-10-27T15:26") == sorted(SYMBOLS)  # one request each
    assert all(rig.true(symbol, "2026-10-27T06:40", "2026-10-27T15:10") for symbol in SYMBOLS)


def test_a_clock_that_was_ahead_for_one_poll_loses_nothing(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    rig.tick("2026-10-27T08:00")
    rig.door.stands_ms = at("2026-10-27T08:00")  # which is the time
    rig.tick("2026-10-27T11:00")
    assert rig.until("THYAO.IS") == at("2026-10-27T10:44")
    rig.door.stands_ms = None
    assert rig.tick("2026-10-27T08:05") == sorted(SYMBOLS)
    assert rig.until("THYAO.IS") == at("2026-10-27T07:49")
    assert rig.holes() == []
    assert all(rig.true(symbol, "2026-10-27T06:40", "2026-10-27T07:49") for symbol in SYMBOLS)


def test_what_yahoo_does_not_reach_stays_a_hole_and_says_why(rig: Rig) -> None:
    rig.tick("2026-10-27T06:00")
    with rig.engine.begin() as connection:
        connection.execute(sa.text("UPDATE settled SET until = '2026-09-25T06:40Z'"))
        for symbol in ("GARAN.IS", "SISE.IS"):
            catalog.set_active(connection, rig.instruments[symbol].id, False)
    rig.tick("2026-10-27T16:00")
    left = rig.holes()
    assert {hole[3] for hole in left} == {"Yahoo has 1m bars of the last 30 days only"}
    assert {hole[1:3] for hole in left} == {("25 06:40", "25 15:10"), ("28 06:40", "28 15:10")}
    assert rig.true("THYAO.IS", "2026-09-29T00:00", "2026-10-27T16:00")


def test_daily_bars_are_asked_for_once_a_session_is_over(rig: Rig) -> None:
    daily = Daily(rig.engine, settled, rig.door, 400)

    def asked() -> list[tuple[int, int]]:
        with rig.engine.begin() as connection:
            rows = connection.execute(
                sa.text("SELECT lo, hi FROM backfills WHERE timeframe = '1d' AND asked_by = 'daily'")
            )
            return [(round(row[0].timestamp() * 1000), round(row[1].timestamp() * 1000)) for row in rows]

    rig.door.now_ms = at("2026-10-27T15:20")  # the session is over, its last bars are not here yet
    assert daily.run() == 3
    day = 86_400_000
    assert set(asked()) == {(at("2026-10-26T00:00") - 400 * day, at("2026-10-27T00:00"))}
    assert daily.run() == 0  # they wait
    with rig.engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET state = 'done'"))
        for item in rig.instruments.values():
            span = at("2026-10-20T00:00"), at("2026-10-27T00:00")
            candles.replace(connection, rig.source.klines(item, Timeframe.D1, *span), tf=Timeframe.D1, flats=False)
        connection.execute(sa.text("DELETE FROM backfills"))
    assert daily.run() == 0  # all there
    rig.door.now_ms = at("2026-10-27T15:31")
    assert daily.run() == 3
    assert set(asked()) == {(at("2026-10-26T00:00"), at("2026-10-28T00:00"))}  # the newest once more, then what is new
    with rig.engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET state = 'done'"))
    assert daily.run() == 0  # asked in vain: not again at once
    with rig.engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET updated = now() - interval '61 seconds'"))
    assert daily.run() == 3
    with rig.engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET state = 'done', updated = now() - interval '61 seconds'"))
    assert daily.run() == 0  # twice as long the next time


def test_a_day_that_becomes_a_holiday_goes(rig: Rig) -> None:
    with rig.engine.begin() as connection:
        held = sessions.read(connection, "XIST", at("2026-10-27T00:00"), at("2026-10-28T00:00"))
        dates = [session.date_ms for session in held if session.date_ms != at("2026-10-27T00:00")]
        gone = settled.drop_others(
            connection, "XIST", dates, lo_ms=at("2026-10-26T00:00"), hi_ms=at("2026-10-28T00:00")
        )
        assert gone == 1
        connection.rollback()


def test_the_platform_polls_the_simulated_market(settings: Settings, engine: sa.Engine, rig: Rig) -> None:
    with start_sandbox(start="2026-10-27T08:00:30", symbols="BTC/USDT", stocks="THYAO.IS,GARAN.IS,SISE.IS") as sandbox:
        own = settings.model_copy(update={**sandbox_urls(sandbox.url), "market": "sandbox"})
        own_platform = platform(own, process="tests")
        own_platform.calendars.run()
        assert own_platform.polling.run() is False
        assert own_platform.daily.run() == 3
        own_platform.engine.dispose()
    bars = rig.stored("THYAO.IS", "2026-10-27T07:00", "2026-10-27T08:00")
    assert 30 <= len(bars) <= 45  # Yahoo is a quarter of an hour late
    assert rig.health()["feed"] == "connected"
