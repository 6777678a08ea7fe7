"""The REST API on a real PostgreSQL and Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.cache import charts as cache
from app.cache import health, keys
from app.cache.publisher import RedisPublisher
from app.cache.pubsub import quotes
from app.config import Settings
from app.domain.bars import State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.storage import catalog
from tests.integration.web_data import START_MS, bar, store, store_indicators, wipe
from webapp import create_app

M5 = 5 * MINUTE_MS


@pytest.fixture(scope="module")
def instrument(engine: sa.Engine) -> Instrument:
    with engine.connect() as conn:
        return catalog.find(conn, "BTC/USDT", "binance")


@pytest.fixture
def client(settings: Settings, engine: sa.Engine, redis_client: redis.Redis) -> Iterator[FlaskClient]:
    wipe(engine)
    app = create_app(settings.model_copy(update={"chart_bars": 10}))
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


def chart(client: FlaskClient, address: str = "/api/charts/BTC-USDT?limit=10", *, status: int = 200) -> Any:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def kept(redis_client: redis.Redis) -> bool:
    """Whether Redis has the chart, which is put there after the answer."""
    end = time.monotonic() + 60
    while not redis_client.exists(keys.chart("binance", "BTC/USDT", "1m")):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def times(body: Any) -> list[int]:
    return [row["time"] for row in body["bars"]]


def test_symbols_are_grouped_by_exchange(client: FlaskClient) -> None:
    groups = {group["exchange"]: group for group in client.get("/api/symbols").get_json()["exchanges"]}
    assert list(groups) == ["binance", "alpaca", "yahoo"]
    assert groups["binance"]["title"] == "Binance"
    bitcoin = next(item for item in groups["binance"]["symbols"] if item["symbol"] == "BTC/USDT")
    assert bitcoin == {
        "symbol": "BTC/USDT",
        "active": True,
        "price_decimals": 2,
        "currency": "USDT",
        "asset_class": "crypto",
        "calendar": "24/7",
    }


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC%2FUSDT", "BTC-USDT", "btc-usdt"])
def test_a_chart_has_the_shape_the_issue_gives(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, symbol: str
) -> None:
    store(engine, [bar(instrument.id, START_MS)])
    store_indicators(engine, instrument.id, {START_MS: {"rsi_14": 55.5}})
    body = chart(client, f"/api/charts/{symbol}?exchange=binance&timeframe=1m")
    assert {name: body[name] for name in ("symbol", "exchange", "timeframe")} == {
        "symbol": "BTC/USDT",
        "exchange": "binance",
        "timeframe": "1m",
    }
    assert body["bars"] == [
        {
            "time": START_MS,
            "open": 100.0,
            "high": 102.0,
            "low": 99.0,
            "close": 101.0,
            "volume": 1.5,
            "quote_volume": 150.0,
            "trade_count": 2,
            "state": "closed",
            "completed": True,
            "revision": 0,
            "origin": "trades",
        }
    ]
    (row,) = body["indicators"]
    assert row["time"] == START_MS
    assert row["rsi_14"] == 55.5
    assert row["macd"] is None


def test_a_range_is_right_open_and_its_newest_bars_count(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument
) -> None:
    store(engine, [bar(instrument.id, START_MS + i * MINUTE_MS) for i in range(20)])
    first, last = START_MS + 5 * MINUTE_MS, START_MS + 15 * MINUTE_MS
    assert times(chart(client, f"/api/charts/BTC-USDT?start={first}&end={last}")) == list(range(first, last, MINUTE_MS))
    assert times(chart(client, f"/api/charts/BTC-USDT?start={first}&end={last}&limit=3")) == list(
        range(last - 3 * MINUTE_MS, last, MINUTE_MS)
    )
    iso = "2023-11-15T00:05:00Z"
    assert times(chart(client, f"/api/charts/BTC-USDT?start={iso}&limit=5000"))[0] == first


def test_indicators_can_be_picked(client: FlaskClient, engine: sa.Engine, instrument: Instrument) -> None:
    store(engine, [bar(instrument.id, START_MS)])
    store_indicators(engine, instrument.id, {START_MS: {"rsi_14": 55.5, "sma_20": 7.0}})
    picked = chart(client, "/api/charts/BTC-USDT?indicators=sma_20,macd")["indicators"]
    assert picked == [{"time": START_MS, "sma_20": 7.0, "macd": None}]
    assert chart(client, "/api/charts/BTC-USDT?indicators=none")["indicators"] == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=5001", "limit"),
        ("limit=ten", "limit"),
        ("timeframe=2m", "timeframe"),
        ("exchange=kraken", "exchange"),
        ("start=yesterday", "start"),
        ("end=-5", "end"),
        ("end=99999999999999999", "end"),
        ("start=2000&end=1000", "start, end"),
        ("start=1000&end=1000", "start, end"),
        ("indicators=rsi_15", "indicators"),
        ("limt=5", "limt"),
    ],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str, name: str) -> None:
    body = chart(client, f"/api/charts/BTC-USDT?{query}", status=400)
    assert set(body) == {"error"}
    assert body["error"]["message"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    "address",
    [
        "/api/charts/NOPE-USDT",
        "/api/charts/AAPL?exchange=binance",
        "/api/charts/BTC%00USDT",
        "/api/charts/%ff%fe",
        "/api/charts/" + "A" * 3000,
        "/api/charts//",
        "/api/nothing",
    ],
)
def test_what_is_unknown_is_404_in_json(client: FlaskClient, address: str) -> None:
    body = chart(client, address, status=404)
    assert body["error"]["code"] in {"unknown_symbol", "not_found"}


def test_a_symbol_of_two_exchanges_needs_one_named(client: FlaskClient, engine: sa.Engine) -> None:
    with engine.begin() as conn:
        catalog.add(conn, "yahoo", "AAPL", active=False)
    try:
        body = chart(client, "/api/charts/AAPL", status=400)
        assert "alpaca" in body["error"]["message"]
        assert "yahoo" in body["error"]["message"]
        assert chart(client, "/api/charts/AAPL?exchange=yahoo")["exchange"] == "yahoo"
    finally:
        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM instruments WHERE exchange = 'yahoo' AND symbol = 'AAPL'"))


def test_the_live_bar_of_a_timeframe_holds_the_minutes_not_rolled_up_yet(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument
) -> None:
    minutes = [bar(instrument.id, START_MS + i * MINUTE_MS, price=100 + i) for i in range(8)]
    minutes[7] = bar(instrument.id, minutes[7].time_ms, price=120, state=State.OPEN)
    store(engine, minutes)
    rolled = bar(instrument.id, START_MS, minutes=5)
    part = bar(instrument.id, START_MS + M5, minutes=1, state=State.OPEN)  # holds 00:05; 00:06 and 00:07 are not in
    store(engine, [rolled, part], tf=Timeframe.M5)
    for limit in (10, 9):  # from the cache's path, and from the database
        bars = chart(client, f"/api/charts/BTC-USDT?timeframe=5m&limit={limit}")["bars"]
        assert [row["time"] for row in bars] == [START_MS, START_MS + M5]
        assert bars[0]["trade_count"] == 10
        assert bars[1]["trade_count"] == 6
        assert bars[1]["close"] == 121.0
        assert bars[1]["high"] == 122.0
        assert not bars[1]["completed"]


def test_minutes_without_any_roll_up_make_bars(client: FlaskClient, engine: sa.Engine, instrument: Instrument) -> None:
    store(engine, [bar(instrument.id, START_MS + i * MINUTE_MS) for i in range(7)])
    bars = chart(client, "/api/charts/BTC-USDT?timeframe=5m")["bars"]
    assert [(row["time"], row["trade_count"]) for row in bars] == [(START_MS, 10), (START_MS + M5, 4)]
    ranged = chart(client, f"/api/charts/BTC-USDT?timeframe=5m&start={START_MS + 1}")["bars"]
    assert [row["time"] for row in ranged] == [START_MS + M5]
    ranged = chart(client, f"/api/charts/BTC-USDT?timeframe=5m&end={START_MS + M5}")["bars"]
    assert [(row["time"], row["trade_count"]) for row in ranged] == [(START_MS, 10)]


def test_the_newest_chart_comes_from_the_cache_with_a_fresh_tail(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, redis_client: redis.Redis
) -> None:
    store(engine, [bar(instrument.id, START_MS + i * MINUTE_MS) for i in range(12)])
    rows = {START_MS + i * MINUTE_MS: {"rsi_14": float(i)} for i in range(12)}
    store_indicators(engine, instrument.id, rows)
    first = chart(client)
    assert len(first["bars"]) == 10
    assert kept(redis_client)

    # A change behind the cache's back is not seen, so the cache is used; the tail is read with every message.
    store(engine, [bar(instrument.id, START_MS + 9 * MINUTE_MS, price=500)])
    store(engine, [bar(instrument.id, START_MS + 12 * MINUTE_MS, price=300, state=State.OPEN)])
    cache.touch(redis_client, [instrument])
    second = chart(client)
    assert times(second) == list(range(START_MS + 3 * MINUTE_MS, START_MS + 13 * MINUTE_MS, MINUTE_MS))
    assert second["bars"][-1]["open"] == 300.0
    assert second["bars"][-4]["open"] == 100.0
    assert [row["time"] for row in second["indicators"]] == times(second)[:-1]

    some = chart(client, "/api/charts/BTC-USDT?limit=10&indicators=rsi_14")
    assert some["bars"] == second["bars"]
    assert some["indicators"] == [{"time": row["time"], "rsi_14": row["rsi_14"]} for row in second["indicators"]]
    assert chart(client, "/api/charts/BTC-USDT?limit=10&indicators=none") == {**second, "indicators": []}

    # Said aloud, it is seen at once.
    cache.bump(redis_client, [instrument])
    assert chart(client)["bars"][-4]["open"] == 500.0
    assert chart(client) == chart(client, "/api/charts/BTC-USDT?limit=10&start=0")


def test_a_cached_roll_up_is_completed_by_later_minutes(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, redis_client: redis.Redis
) -> None:
    store(engine, [bar(instrument.id, START_MS + i * M5, minutes=5) for i in range(12)], tf=Timeframe.M5)
    address = "/api/charts/BTC-USDT?timeframe=5m&limit=10"
    assert len(chart(client, address)["bars"]) == 10
    store(engine, [bar(instrument.id, START_MS + 12 * M5, price=200, state=State.OPEN)])
    cache.touch(redis_client, [instrument])
    after = chart(client, address)
    assert times(after) == list(range(START_MS + 3 * M5, START_MS + 13 * M5, M5))
    assert after["bars"][-1]["open"] == 200.0
    assert after == chart(client, address + "&start=0")


def test_more_new_bars_than_the_cache_holds_rebuild_it(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, redis_client: redis.Redis
) -> None:
    store(engine, [bar(instrument.id, START_MS + i * MINUTE_MS) for i in range(10)])
    chart(client)
    store(engine, [bar(instrument.id, START_MS + i * MINUTE_MS, price=7) for i in range(10, 30)])
    cache.touch(redis_client, [instrument])
    assert times(chart(client))[0] == START_MS + 20 * MINUTE_MS


def test_a_value_read_before_a_commit_is_never_used(redis_client: redis.Redis, instrument: Instrument) -> None:
    def cached() -> bytes | None:
        generation = cache.versions(redis_client, instrument).generation
        return cache.get(redis_client, instrument, Timeframe.M1, generation=generation)

    before = cache.versions(redis_client, instrument).generation
    cache.bump(redis_client, [instrument])
    cache.put(redis_client, instrument, Timeframe.M1, value=b"old", generation=before, ttl_s=60)
    assert cached() is None
    now = cache.versions(redis_client, instrument).generation
    cache.put(redis_client, instrument, Timeframe.M1, value=b"new", generation=now, ttl_s=60)
    assert cached() == b"new"
    redis_client.flushdb()
    cache.put(redis_client, instrument, Timeframe.M1, value=b"lost", generation=now, ttl_s=60)
    assert cached() is None


def test_an_emptied_redis_refills(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, redis_client: redis.Redis
) -> None:
    store(engine, [bar(instrument.id, START_MS)])
    before = chart(client)
    redis_client.flushdb()
    assert chart(client) == before
    assert kept(redis_client)


def test_without_redis_the_database_answers_and_health_says_so(
    settings: Settings, engine: sa.Engine, instrument: Instrument
) -> None:
    wipe(engine)
    store(engine, [bar(instrument.id, START_MS)])
    app = create_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    client = app.test_client()
    assert len(chart(client, "/api/charts/BTC-USDT")["bars"]) == 1
    assert client.get("/api/overview").status_code == 200
    answer = client.get("/api/health")
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "degraded"
    assert not answer.get_json()["redis"]["ok"]
    app.extensions["web"].engine.dispose()


def test_without_the_database_it_is_503(settings: Settings, redis_client: redis.Redis) -> None:
    app = create_app(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    client = app.test_client()
    for address in ("/api/charts/BTC-USDT", "/api/symbols", "/api/overview", "/api/health"):
        answer = client.get(address)
        assert answer.status_code == 503, address
        error = answer.get_json()["error"]
        assert error["code"] == "unavailable"
        assert isinstance(error["message"], str)
        assert "nobody" not in answer.text
    app.extensions["web"].redis.close()


def test_health_tells_processes_counters_and_feeds(client: FlaskClient, redis_client: redis.Redis) -> None:
    health.beat(redis_client, "streamer-binance", {"exchange": "binance", "feed": "connected", "since": 5, "at": 7})
    health.count(redis_client, "refused", 3)
    body = client.get("/api/health").get_json()
    assert body["status"] == "ok"
    always = {"24/7": {"calendar": "24/7", "state": "open", "until": None, "opens": None}}
    assert body["feeds"]["binance"] == {
        "feed": "connected", "since": 5, "at": 7, "error": None, "missing": None, "delay_s": 0, "markets": always,
    }  # fmt: skip
    assert body["feeds"]["alpaca"]["feed"] == "none"
    assert body["counters"] == {"refused": 3}
    assert "streamer-binance" in body["processes"]


def test_the_overview_tells_price_change_and_shape(
    client: FlaskClient, engine: sa.Engine, instrument: Instrument, redis_client: redis.Redis
) -> None:
    quarter = 15 * MINUTE_MS
    web = client.application.extensions["web"]
    now = START_MS + 100 * quarter + 90_000
    web.overview._now_ms = lambda: now  # the exchange clock stands where the bars end
    store(
        engine,
        [bar(instrument.id, START_MS + i * quarter, minutes=15, price=100 + i) for i in range(100)],
        tf=Timeframe.M15,
    )
    store(engine, [bar(instrument.id, START_MS + 100 * quarter, price=150, state=State.OPEN)])
    rows = {row["symbol"]: row for row in client.get("/api/overview").get_json()["instruments"]}
    bitcoin = rows["BTC/USDT"]
    assert bitcoin["price"] == 151.0
    assert bitcoin["change_24h"] == round((151 / 104 - 1) * 100, 4)  # the close 24 h ago: bar 3's, 103 + 1
    assert bitcoin["volume_24h"] == 96 * 22.5 + 1.5
    assert len(bitcoin["sparkline"]) == 49
    assert bitcoin["sparkline"][-1] == 151.0
    assert bitcoin["market"]["state"] == "open"
    assert bitcoin["feed"] == "none"
    assert rows["AAPL"]["price"] is None
    assert rows["AAPL"]["sparkline"] == []
    publisher = RedisPublisher(redis_client)
    publisher.quote({"binance:BTC/USDT": (152.5, now)})
    publisher.quote({"binance:BTC/USDT": (7.0, now - 1), "alpaca:AAPL": (7.5, now - 1)})  # a late batch, an import
    assert quotes(redis_client) == {"binance:BTC/USDT": (152.5, now), "alpaca:AAPL": (7.5, now - 1)}
    redis_client.hdel(keys.QUOTES, "alpaca:AAPL")
    rows = {row["symbol"]: row for row in client.get("/api/overview").get_json()["instruments"]}
    assert rows["BTC/USDT"]["price"] == 152.5
