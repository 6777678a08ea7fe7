"""The day of a US stock is its session's: an evening that ends after midnight UTC makes no bar of the next date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Origin
from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS, Timeframe
from app.storage import catalog, holes, outbox, settled
from tests.factories import bars
from tests.integration.web_data import bar, empty, store, store_indicators
from webapp import create_app

D1, H4 = Timeframe.D1, Timeframe.H4
Days = dict[str, tuple[float, float, float, float, float]]

# Prices of one-minute bars (a bar of price p: open p, high p + 2, low p - 1, close p + 1, volume 1.5) by New York time.
WINTER = {
    "2026-01-15 15:59": 40.0,
    "2026-01-15 19:30": 50.0,  # Friday 00:30 UTC
    "2026-01-16 04:00": 100.0,
    "2026-01-16 15:59": 110.0,
    "2026-01-16 18:59": 120.0,
    "2026-01-16 19:30": 200.0,  # Saturday 00:30 UTC
}
SUMMER = {
    "2026-07-16 19:30": 50.0,  # Thursday 23:30 UTC
    "2026-07-17 04:00": 100.0,
    "2026-07-17 19:59": 120.0,  # Friday 23:59 UTC
}
HALF_DAY = {
    "2026-11-25 19:59": 50.0,  # Thanksgiving, 00:59 UTC
    "2026-11-27 04:00": 100.0,
    "2026-11-27 12:59": 110.0,
    "2026-11-27 16:59": 120.0,  # the extended evening of a half day ends at 17:00
}
# Has the days that are our own roll-ups made anew.
AGAIN = """
    INSERT INTO touched (stage, instrument_id, lo, hi) SELECT 'rollup', b.instrument_id, b.time, b.time
    FROM candles_1d b JOIN instruments i ON i.id = b.instrument_id WHERE i.calendar = 'XNYS' AND b.origin = 2
"""

EXPECTED: dict[str, tuple[Mapping[str, float], Days]] = {
    "winter": (
        WINTER,
        {"2026-01-15": (40.0, 42.0, 39.0, 41.0, 1.5), "2026-01-16": (100.0, 122.0, 99.0, 121.0, 4.5)},
    ),
    "the next morning": (
        dict(list(WINTER.items())[1:3]),
        {"2026-01-16": (100.0, 102.0, 99.0, 101.0, 1.5)},
    ),
    "summer": (
        SUMMER,
        {"2026-07-16": (50.0, 52.0, 49.0, 51.0, 1.5), "2026-07-17": (100.0, 122.0, 99.0, 121.0, 3.0)},
    ),
    "half day": (HALF_DAY, {"2026-11-27": (100.0, 122.0, 99.0, 121.0, 4.5)}),
}


def ms(text: str, zone: str = "America/New_York") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


@pytest.fixture
def platform(settings: Settings, redis_client: redis.Redis) -> Iterator[Platform]:
    made = Platform(settings, "tests")
    empty(made.engine)
    with made.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE touched, settled, coverage"))
    yield made
    empty(made.engine)
    made.engine.dispose()


@pytest.fixture
def web(settings: Settings, redis_client: redis.Redis) -> Iterator[FlaskClient]:
    app = create_app(settings)
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


@pytest.fixture
def stored(platform: Platform) -> Callable[[str, Mapping[str, float]], int]:
    """Stores an instrument's minutes, which are all there are."""

    def put(symbol: str, prices: Mapping[str, float]) -> int:
        times = {ms(text): price for text, price in prices.items()}
        with platform.engine.begin() as connection:
            instrument_id = catalog.find(connection, symbol).id
            lo_ms, hi_ms = (D1.floor(time) for time in (min(times), max(times) + 2 * DAY_MS))
            holes.cover(connection, instrument_id, lo_ms, hi_ms)
            settled.forward(connection, instrument_id, hi_ms)
            outbox.mark(connection, "rollup", [Span(instrument_id, time, time) for time in times])
        store(platform.engine, [bar(instrument_id, time, price=price) for time, price in times.items()])
        return instrument_id

    return put


def settle(platform: Platform) -> None:
    while platform.settle.run():
        continue
    while platform.publish.run():
        continue


def told(web: FlaskClient, symbol: str) -> Days:
    """The days as the API tells them, whole and in pages, and as UDF does."""
    charts = [web.get(f"/api/charts/{symbol}?timeframe=1d{more}").get_json()["bars"] for more in ("", "&limit=20")]
    names = ("open", "high", "low", "close", "volume")
    found = [{date(row["time"]): tuple(row[name] for name in names) for row in rows} for rows in charts]
    udf = web.get(f"/udf/history?symbol=ALPACA:{symbol}&resolution=1D&from=1767225600&to=1798675200").get_json()
    found.append({date(t * 1000): row for t, *row in zip(*(udf[name] for name in "tohlcv"), strict=True)})
    first, *others = [{day: tuple(map(float, row)) for day, row in days.items()} for days in found]
    assert all(each == first for each in others)
    return first  # type: ignore[return-value]


@pytest.mark.parametrize("season", EXPECTED)
def test_a_day_is_made_of_its_own_sessions_minutes(
    season: str, platform: Platform, web: FlaskClient, stored: Callable[..., int]
) -> None:
    prices, expected = EXPECTED[season]
    instrument_id = stored("AAPL", prices)
    assert told(web, "AAPL") == expected, "before anything is rolled up"
    settle(platform)
    assert [date(each.time_ms) for each in bars(platform.engine, instrument_id, "1d")] == sorted(expected)
    assert told(web, "AAPL") == expected
    assert {H4.floor(ms(text)) for text in prices} == {
        each.time_ms for each in bars(platform.engine, instrument_id, "4h")
    }
    assert sum(each.volume for each in bars(platform.engine, instrument_id, "4h")) * 2 == 3 * len(prices), "4h has all"


def test_the_evening_after_a_day_of_the_sources_own_changes_nothing(
    platform: Platform, web: FlaskClient, stored: Callable[..., int]
) -> None:
    friday = ms("2026-01-16", "UTC")
    own = {"close_time": (friday + DAY_MS) * 1000 - 1, "close_seq": 0, "origin": Origin.EXCHANGE}
    instrument_id = stored("AAPL", WINTER)
    store(platform.engine, [bar(instrument_id, friday, price=105.0, minutes=1440, **own)], tf=D1)
    expected = (105.0, 107.0, 104.0, 106.0, 2160.0)
    assert told(web, "AAPL") == {"2026-01-16": expected}
    settle(platform)
    assert told(web, "AAPL")["2026-01-16"] == expected
    assert sorted(told(web, "AAPL")) == ["2026-01-15", "2026-01-16"]


def test_a_day_that_was_made_of_an_evening_goes_once_it_is_derived_again(
    platform: Platform, stored: Callable[..., int]
) -> None:
    instrument_id = stored("AAPL", WINTER)
    settle(platform)
    saturday = ms("2026-01-17", "UTC")
    store(platform.engine, [bar(instrument_id, saturday, price=200.0, minutes=1440)], tf=D1)
    store_indicators(platform.engine, instrument_id, {saturday: {"sma_20": 200.0}}, tf=D1)
    with platform.engine.begin() as connection:
        connection.execute(sa.text(AGAIN))
    settle(platform)
    assert [date(each.time_ms) for each in bars(platform.engine, instrument_id, "1d")] == ["2026-01-15", "2026-01-16"]
    with platform.engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM indicators_1d")).scalar() == 0
        waiting = outbox.take(connection, "indicators")
    assert any(span.lo_ms <= saturday <= span.hi_ms for span in waiting), "what follows is computed anew"


def test_other_markets_days_are_whole_utc_days(platform: Platform, stored: Callable[..., int]) -> None:
    for symbol in ("BTC/USDT", "THYAO.IS"):
        instrument_id = stored(symbol, WINTER)
        settle(platform)
        opens = {date(each.time_ms): each.open for each in bars(platform.engine, instrument_id, "1d")}
        assert opens == {"2026-01-15": 40.0, "2026-01-16": 50.0, "2026-01-17": 200.0}, symbol
