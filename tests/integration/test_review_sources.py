"""A hostile review of sources and streamers: what must hold live, on real servers and a scripted exchange."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa
from aiohttp import web

from app.bootstrap import Platform, platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.instruments import Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import Forbidden, SourceError, UnknownInstrument
from app.services import backfill as engine_module
from app.services.backfill import Backfill
from app.services.daily import Daily
from app.sources.yahoo import YahooHistory
from app.storage import backfills, candles, catalog, sessions, settled
from tests.alpaca_door import door as alpaca_door
from tests.alpaca_door import streaming
from tests.yahoo_door import at, open_door

DAY = at("2026-10-26T00:00")  # a Monday
D1, M1 = Timeframe.D1, Timeframe.M1
A_DAY_LATER = sa.text(
    "UPDATE backfills SET updated = updated - interval '1 day', not_before = not_before - interval '1 day'"
)


@dataclass
class Source:
    """A history that answers with bars of one price, or fails as it is told."""

    price: float = 100.0
    error: Exception | None = None
    asked: list[tuple[Timeframe, int, int]] = field(default_factory=list)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """See History."""
        self.asked.append((timeframe, start_ms, end_ms))
        if self.error is not None:
            raise self.error
        times = range(-(-start_ms // timeframe.ms) * timeframe.ms, end_ms, timeframe.ms)
        p = self.price
        return [
            Bar(instrument.id, time_ms, p, p, p, p, Decimal(1), Decimal(1), Decimal(0), 1, time_ms * 1000, 0,
                (time_ms + timeframe.ms) * 1000 - 1, 0, State.VERIFIED, 0, Origin.EXCHANGE)
            for time_ms in times
        ][:limit]  # fmt: skip


@dataclass
class Clock:
    now_ms: int = DAY + 3 * DAY_MS

    def now_us(self) -> int:
        """See Clock of the ports."""
        return self.now_ms * 1000


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def parts(settings: Settings) -> Iterator[Platform]:
    built = platform(settings, process="tests")
    yield built
    built.engine.dispose()


@pytest.fixture
def work(parts: Platform, source: Source, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Backfill:
    monkeypatch.setattr(engine_module, "SLICE_S", 1000.0)
    with parts.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE candles_1m, candles_1d, coverage, backfills, touched, holes, sessions"))
    return replace(parts.backfill, history=lambda _: source, clock=clock)


@pytest.fixture
def apple(parts: Platform) -> Instrument:
    with parts.engine.begin() as connection:
        for item in catalog.instruments(connection):
            catalog.set_active(connection, item.id, item.symbol == "AAPL")
        return catalog.find(connection, "AAPL")


def trading_days(parts: Platform, *days: int) -> None:
    """Sessions from 13:30 to 20:00 UTC."""
    found = [Session(day, day + 810 * MINUTE_MS, day + 1200 * MINUTE_MS) for day in days]
    with parts.engine.begin() as connection:
        sessions.put(connection, "XNYS", found)


def work_off(work: Backfill) -> None:
    """Every waiting backfill is worked on."""
    with work.engine.begin() as connection:
        found = connection.execute(sa.text("SELECT id FROM backfills WHERE state IN ('waiting', 'running')")).scalars()
        wanted = list(found)
    for number in wanted:
        work.run(number)


def close_of(work: Backfill, item: Instrument, time_ms: int) -> float:
    with work.engine.begin() as connection:
        (found,) = candles.read_many(connection, [item.id], D1, start_ms=time_ms, end_ms=time_ms + 1)
    return found.close


# 1 --- Yahoo's word for "nothing there" -----------------------------------------------------------------------------


def nothing(request: web.Request) -> web.Response:
    """What Yahoo answers to a stretch without a bar: holidays, before the listing, a suspended stock."""
    word = "Data doesn't exist for startDate = 1779656400, endDate = 1780261200"
    body = {"chart": {"result": None, "error": {"code": "Bad Request", "description": word}}}
    return web.Response(body=orjson.dumps(body), status=400, content_type="application/json")


@pytest.mark.parametrize("timeframe", [M1, D1])
def test_a_stretch_without_bars_is_no_failure_of_yahoo(
    timeframe: Timeframe, settings: Settings, parts: Platform, tmp_path: Path
) -> None:
    with parts.engine.begin() as connection:
        item = catalog.find(connection, "THYAO.IS")
    with open_door("THYAO.IS", now="2026-10-27T06:00", delay_s=900) as door:
        own = settings.model_copy(update={"yahoo_api_url": door.url, "data_dir": tmp_path})
        history = YahooHistory(own, now_us=door.now_us)
        span = at("2026-10-20T00:00"), at("2026-10-24T00:00")
        try:
            assert history.klines(item, timeframe, *span)  # the time zone is known from now on
            door.instead = nothing
            assert history.klines(item, timeframe, *span) == []
        finally:
            history.close()


# 2 --- daily bars -------------------------------------------------------------------------------------------------


def test_a_daily_bar_taken_minutes_after_the_close_is_taken_again_once_it_is_final(
    work: Backfill, parts: Platform, source: Source, clock: Clock, apple: Instrument
) -> None:
    """Alpaca and Yahoo go on changing a day's bar for hours (closing auction, late prints, corrections)."""
    daily = Daily(work.engine, settled, clock, 0)
    trading_days(parts, DAY, DAY + DAY_MS)
    clock.now_ms = DAY + 1206 * MINUTE_MS  # 16:06 New York time
    assert daily.run() == 1
    work_off(work)
    assert close_of(work, apple, DAY) == 100.0
    source.price = 101.5  # the closing auction's price, reported at 16:10
    clock.now_ms = DAY + DAY_MS + 1206 * MINUTE_MS
    assert daily.run() == 1  # asks for [the newest once more, the new day]
    work_off(work)
    assert close_of(work, apple, DAY + DAY_MS) == 101.5
    assert close_of(work, apple, DAY) == 101.5, f"never asked for again: {source.asked}"


def test_a_correction_after_the_close_reaches_the_daily_bar(
    work: Backfill, parts: Platform, source: Source, clock: Clock, apple: Instrument
) -> None:
    """A print of the day is cancelled in the evening: its minute is fetched again, and so must be its day."""
    daily = Daily(work.engine, settled, clock, 0)
    trading_days(parts, DAY)
    with work.engine.begin() as connection:
        before = source.klines(apple, M1, DAY + 810 * MINUTE_MS, DAY + 1200 * MINUTE_MS)
        candles.replace(connection, before, flats=False)
    clock.now_ms = DAY + 1206 * MINUTE_MS
    daily.run()
    work_off(work)
    source.price = 99.0  # what the source says of minute and day once the print is cancelled
    minute = DAY + 900 * MINUTE_MS
    clock.now_ms = DAY + 1300 * MINUTE_MS
    with work.engine.begin() as connection:  # as repair does with the doubt of the cancel
        bars = source.klines(apple, M1, minute, minute + MINUTE_MS)
        assert parts.verify.take(connection, apple, bars, lo_ms=minute, end_ms=minute + MINUTE_MS, now_ms=clock.now_ms)
    while parts.settle.run():
        continue
    clock.now_ms = DAY + 1440 * MINUTE_MS
    with work.engine.begin() as connection:  # it is not asked for again within a minute
        connection.execute(sa.text("UPDATE backfills SET updated = updated - interval '10 minutes'"))
    daily.run()
    work_off(work)
    assert close_of(work, apple, DAY) == 99.0, "the day's bar keeps the print that never was"


# 3 --- no key -----------------------------------------------------------------------------------------------------


def test_a_source_without_a_key_does_not_fill_the_table_of_backfills(
    work: Backfill, parts: Platform, source: Source, clock: Clock, apple: Instrument
) -> None:
    source.error = Forbidden("Alpaca needs a key: set ALPACA_API_KEY and ALPACA_SECRET_KEY")
    trading_days(parts, DAY)
    clock.now_ms = DAY + 1206 * MINUTE_MS
    daily = Daily(work.engine, settled, clock, 0)
    for _ in range(24):  # a day of wall time, an hour at a time
        daily.run()
        work_off(work)
        with work.engine.begin() as connection:
            connection.execute(sa.text("UPDATE backfills SET updated = updated - interval '61 minutes'"))
    with work.engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT count(*) FROM backfills")).scalar_one()
    assert rows <= 2, f"{rows} failed backfills of one stock in a day"


# 4 --- a start's history that failed once -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SourceError("Yahoo refused: try later"), UnknownInstrument("No data found")])
def test_history_asked_for_by_the_platform_itself_is_asked_for_again_after_a_refusal(
    error: Exception, work: Backfill, source: Source, apple: Instrument
) -> None:
    with work.engine.begin() as connection:
        backfills.create_all(connection, M1, [(apple.id, DAY, DAY + 60 * MINUTE_MS)])
    source.error = error
    work_off(work)
    source.error = None
    for _ in range(5):
        with work.engine.begin() as connection:
            connection.execute(A_DAY_LATER)
        for number in work.due():
            work.run(number)
    with work.engine.begin() as connection:
        states = list(connection.execute(sa.text("SELECT state FROM backfills")).scalars())
    assert "done" in states, f"{states}: nobody will ever ask again"


# 5 --- a defect ---------------------------------------------------------------------------------------------------


def test_a_backfill_that_fails_with_a_defect_ends_and_says_why(
    work: Backfill, source: Source, apple: Instrument
) -> None:
    """Such as peewee's OperationalError out of yfinance's cache, on a disk that is full."""
    source.error = RuntimeError("database or disk is full")
    wanted = work.request(apple, M1, DAY, DAY + 60 * MINUTE_MS)
    for _ in range(30):
        with work.engine.begin() as connection:
            connection.execute(A_DAY_LATER)
        for number in work.due():
            try:
                work.run(number)
            except RuntimeError:
                continue  # the task fails; Celery acknowledges it
    with work.engine.begin() as connection:
        found = backfills.get(connection, wanted)
    assert found is not None
    assert found.error, f"state {found.state!r} after {len(source.asked)} attempts, and no word on why"


# 6 --- Alpaca -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_connection_that_still_counts_after_a_restart_costs_no_five_minutes() -> None:
    """After a restart the exchange may count the old process's connection for some seconds more."""
    async with alpaca_door(refuse=(406, "connection limit exceeded")) as market, streaming(market.url, "AAPL") as live:
        await live.until(lambda: live.streamer.feed.error or live.streamer.stats.delay_s)
        market.refuse = None
        await live.until(lambda: live.streamer.feed.state == "connected")


async def test_a_key_that_worked_today_is_tried_again_after_a_refusal() -> None:
    """A refusal in the middle of the day is the exchange's trouble (maintenance), not a wrong key."""
    async with alpaca_door() as market, streaming(market.url, "AAPL", refused_s=0.5) as live:
        await live.until(lambda: live.streamer.feed.state == "connected" and market.sockets)
        market.refuse = (402, "auth failed")
        await market.drop()
        await live.until(lambda: live.streamer.feed.state == "refused")
        market.refuse = None
        await live.until(lambda: live.streamer.feed.state == "connected")
