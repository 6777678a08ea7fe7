"""/metrics of the web on real servers: what is told, what of it without Redis or database, and who may ask."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.cache import health, keys
from app.cache.limits import Limiter
from app.config import Settings
from app.domain.bars import State
from app.domain.timeframes import MINUTE_MS
from app.local.servers import free_port
from app.metrics import exposition
from app.storage import catalog
from tests.integration.web_data import bar, empty, store, utc
from tests.processes import until
from webapp import create_app
from webapp.figures import Part

TOKEN = "a-token-long-enough-for-tests"
SECRET = SecretStr(TOKEN)


@pytest.fixture
def now_ms(engine: sa.Engine, redis_client: redis.Redis) -> int:
    """The time; the tables are empty."""
    empty(engine)
    return time.time_ns() // 1_000_000


@pytest.fixture
def make(settings: Settings) -> Iterator[Callable[..., FlaskClient]]:
    made: list[Flask] = []

    def client(**overrides: Any) -> FlaskClient:
        made.append(create_app(settings.model_copy(update={"market": "live", **overrides})))
        return made[-1].test_client()

    yield client
    for app in made:
        app.extensions["web"].engine.dispose()


def scraped(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """(sample, label values…) → value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_is_known_is_told(
    make: Callable[..., FlaskClient], engine: sa.Engine, redis_client: redis.Redis, now_ms: int
) -> None:
    minute = now_ms - now_ms % MINUTE_MS
    with engine.begin() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
        conn.execute(
            sa.text("INSERT INTO holes (instrument_id, lo, hi, cause, found) VALUES (:i, :lo, :hi, 'scan', :found)"),
            {"i": btc.id, "lo": utc(minute - 9 * MINUTE_MS), "hi": utc(minute), "found": utc(now_ms - 480_000)},
        )
    # Two minutes are open, the older one for three minutes; of the others one that is old is not verified.
    states = {3: State.OPEN, 4: State.OPEN, 5: State.CLOSED, 30: State.CLOSED, 31: State.VERIFIED, 32: State.VERIFIED}
    store(engine, [bar(btc.id, minute - n * MINUTE_MS, state=state) for n, state in states.items()])
    beat = {"exchange": "binance", "feed": "connected", "since": 1, "lag_ms": 2500, "trades": 70, "reconnects": 2}
    health.beat(redis_client, "streamer-binance", {**beat, "buffered": 9})
    health.beat(redis_client, "up", {"pid": 1, "children": {"web": {"state": "ready"}, "beat": {"state": "given up"}}})
    gone = {"exchange": "alpaca", "feed": "connected", "beat_ms": now_ms - 60_000}
    redis_client.hset(keys.HEALTH, "streamer-alpaca", str(gone).replace("'", '"'))
    for reason, n in (("verified", 7), ("repaired_bars", 3), ("unequal_bars", 2), ("buffer_full", 11), ("cancels", 1)):
        health.count(redis_client, reason, n)
    health.count(redis_client, "nobody-knows-me")
    redis_client.rpush("bars", *range(30))
    redis_client.rpush(keys.PARKED, b"x")
    Limiter(redis_client).spend("binance", 40, per_minute=1200)
    found = scraped(make())
    assert found["market_redis_up",] == found["market_database_up",] == 1
    assert found["market_feed_connected", "binance"] == 1 and found["market_feed_connected", "yahoo"] == 0
    assert ("market_feed_connected", "alpaca") not in found  # there is no key: that it is not collected is no news
    assert found["market_feed_in_session", "binance"] == 1 and found["market_feed_in_session", "yahoo"] == 0
    assert 2.5 <= found["market_feed_silence_seconds", "binance"] < 60
    assert found["market_feed_trades_total", "streamer-binance"] == 70
    assert found["market_feed_reconnects_total", "streamer-binance"] == 2
    assert found["market_feed_buffered_trades", "streamer-binance"] == 9
    assert [found["market_process_stale", f"streamer-{name}"] for name in ("binance", "alpaca")] == [0, 1]
    assert found["market_process_heartbeat_age_seconds", "streamer-alpaca"] >= 60
    assert (found["market_process_ready", "web"], found["market_process_ready", "beat"]) == (1, 0)
    assert found["market_queue_messages", "bars"] == 30 and found["market_queue_messages", "trades.0"] == 0
    assert found["market_parked_messages",] == 1 and found["market_queue_taken_messages",] == 0
    assert [found[f"market_bars_{what}_total",] for what in ("verified", "repaired", "revised")] == [7, 3, 2]
    assert found["market_dropped_total", "buffer_full"] == 11 and found["market_dropped_total", "malformed_frame"] == 0
    assert found["market_counted_total", "cancels"] == 1 and not any("nobody-knows-me" in key for key in found)
    assert found["market_source_weight_used", "binance"] == 40
    assert found["market_source_weight_limit", "alpaca"] == 180
    assert 176 <= found["market_closing_lag_seconds", "binance"] < 300  # from 180 on, less grace
    assert found["market_holes_open", "binance"] == 1 and found["market_holes_open", "alpaca"] == 0
    assert 480 <= found["market_hole_oldest_seconds", "binance"] < 540
    assert found["market_verification_ratio", "binance"] == pytest.approx(2 / 3)
    assert found["market_database_size_bytes",] > 1e6 and found["market_database_connections",] >= 1
    assert found["market_redis_memory_bytes",] > 1e5 and found["market_redis_memory_limit_bytes",] == 0


@pytest.mark.parametrize("feed", ["no_key", "down"])
def test_a_feed_that_lacks_its_key_is_no_feed_that_is_down(
    make: Callable[..., FlaskClient], redis_client: redis.Redis, now_ms: int, feed: str
) -> None:
    health.beat(redis_client, "streamer-alpaca", {"exchange": "alpaca", "feed": feed, "since": now_ms, "trades": 0})
    found = scraped(make())
    assert ("market_feed_connected", "alpaca") not in found and found["market_feed_connected", "binance"] == 0
    assert found["market_process_stale", "streamer-alpaca"] == 0
    keyed = scraped(make(alpaca_api_key="k", alpaca_secret_key=SecretStr("s")))
    assert keyed["market_feed_connected", "alpaca"] == 0  # with keys it is trouble


def test_requests_are_told_by_their_route(make: Callable[..., FlaskClient], redis_client: redis.Redis) -> None:
    client = make()
    name = "market_http_request_duration_seconds_count"
    wanted = {
        ("GET", "/api/charts/<path:symbol>", "4xx"): 2,
        ("other", "none", "4xx"): 1,
        ("GET", "none", "4xx"): 1,
    }
    before = scraped(client)
    for symbol in ("NO/SUCH", "NOR/THIS"):
        client.get(f"/api/charts/{symbol}")
    client.open("/nowhere/../etc", method="BREW")
    client.get("/a/b/c")
    after = scraped(client)
    got = {key: after[(name, *key)] - before.get((name, *key), 0) for key in wanted}
    assert got == wanted
    assert not any("SUCH" in part or "nowhere" in part for key in after for part in key)


def test_without_a_store_the_rest_is_told(make: Callable[..., FlaskClient], redis_client: redis.Redis) -> None:
    nobody = free_port()
    found = scraped(make(redis_url=f"redis://127.0.0.1:{nobody}/0"))
    assert found["market_redis_up",] == 0 and found["market_database_up",] == 1
    assert ("market_parked_messages",) not in found and ("market_database_size_bytes",) in found
    found = scraped(make(database_url=f"postgresql+psycopg2://nobody:x@127.0.0.1:{nobody}/none"))
    assert found["market_redis_up",] == 1 and found["market_database_up",] == 0
    assert found["market_disk_free_bytes", str(make().application.extensions["web"].settings.data_dir)] > 0
    assert ("market_parked_messages",) in found and ("market_database_size_bytes",) not in found


def test_several_processes_on_one_port_tell_nothing_of_one_of_them(
    make: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    one, several = (make(web_workers=n).get("/metrics").text for n in (1, 2))
    assert "process_cpu_seconds_total" in one and "market_build_info" in several
    assert "\nprocess_" not in several, "the next scrape would reach another one, and a counter would go back"


def test_a_look_that_hangs_is_not_waited_for_and_not_begun_again() -> None:
    hang, looks = threading.Event(), list[int]()

    def look() -> int:
        looks.append(1)
        hang.wait(30)
        return 7

    part = Part("a store that hangs", look, wait_s=0.02)
    began = time.monotonic()
    assert [part() for _ in range(5)] == [None] * 5
    assert time.monotonic() - began < 5 and len(looks) == 1
    hang.set()
    assert until(part, every=0.01) == 7 and len(looks) == 1


def test_a_token_opens_it_where_reads_need_one_and_the_rate_limit_lets_it_be(
    make: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    closed = make(api_token=SECRET, api_reads_need_token=True)
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert [make(**how).get("/metrics", headers=bearer).status_code for how in ({}, {"api_token": SECRET})] == [200] * 2
    limited = make(rate_limit_reads="2/minute")
    assert [limited.get("/metrics").status_code for _ in range(4)] == [200] * 4
    assert [limited.get("/api/symbols").status_code for _ in range(3)] == [200, 200, 429]
    guessing = make(rate_limit_reads="2/minute", api_token=SECRET, api_reads_need_token=True)
    redis_client.flushdb()
    assert [guessing.get("/metrics").status_code for _ in range(3)] == [401, 401, 429]


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    handle = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    yield lines
    logger.remove(handle)


def test_a_port_that_is_taken_is_said_and_nothing_else(
    settings: Settings, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "start", lambda folder: True)  # this process is no worker
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert exposition.serve(settings.metrics_folder, "127.0.0.1", port) is None
    assert len(said) == 1 and said[0].startswith(f"ERROR metrics are not served on 127.0.0.1:{port} (")
    assert "METRICS_PORT" in said[0]
    assert exposition.serve(settings.metrics_folder, "127.0.0.1", 0) is None and len(said) == 1
