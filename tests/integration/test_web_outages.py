"""The web process while Redis or the database is away, and after they return."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from app.cache import charts, health, keys, pubsub
from app.config import Settings
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import catalog, migrate
from app.storage.engine import make_engine
from tests.integration.web_data import START_MS, bar, store, update, wipe
from tests.integration.web_server import listen, web_server
from tests.processes import until
from webapp import create_app


@pytest.fixture
def instrument(engine: sa.Engine) -> Instrument:
    wipe(engine)
    with engine.connect() as conn:
        found = catalog.find(conn, "BTC/USDT", "binance")
    store(engine, [bar(found.id, START_MS)])
    return found


def get(url: str) -> tuple[int, dict[str, object]]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.status, json.load(answer)


def test_live_updates_go_on_after_redis_was_away(
    settings: Settings, engine: sa.Engine, instrument: Instrument, own_redis: RedisServer
) -> None:
    client = redis.Redis.from_url(own_redis.url)
    facts = {"exchange": "binance", "feed": "connected", "since": 1, "at": 2}
    here = settings.model_copy(update={"redis_url": own_redis.url})
    with web_server(here) as address, listen(address, "/ws/BTC-USDT") as socket:
        health.beat(client, "streamer-binance", facts)
        assert len(socket.wait("initial")["bars"]) == 1
        socket.wait("status", feed="connected")

        own_redis.stop()
        socket.wait("status", feed="reconnecting")
        began = time.monotonic()
        assert get(f"http://{address}/api/charts/BTC-USDT")[0] == 200
        assert time.monotonic() - began < 15
        assert get(f"http://{address}/api/health")[1]["status"] == "degraded"
        with listen(address, "/ws/BTC-USDT") as newcomer:
            assert len(newcomer.wait("initial")["bars"]) == 1
        store(engine, [bar(instrument.id, START_MS + MINUTE_MS)])  # published while nobody could hear it

        own_redis.start()
        charts.bump(client, [instrument])
        health.beat(client, "streamer-binance", facts)
        assert len(socket.wait("initial")["bars"]) == 2
        health.beat(client, "streamer-binance", facts)  # the one before may be too old by now
        socket.wait("status", feed="connected")
        later = bar(instrument.id, START_MS + 2 * MINUTE_MS, price=170.0)
        pubsub.publish(client, keys.CHART_UPDATES, update("BTC/USDT", instrument.id, {"1m": [later]}))
        assert socket.bar(later.time_ms)["bar"]["open"] == 170.0
        health.beat(client, "streamer-binance", facts)
        assert get(f"http://{address}/api/health")[1]["status"] == "ok"
    client.close()


def test_a_process_without_a_client_hears_of_another_redis(settings: Settings, own_redis: RedisServer) -> None:
    """It starts without one, too; what an older state of Redis says of charts is void in the end."""
    name = keys.generation("binance", "BTC/USDT")
    own_redis.stop()
    with web_server(settings.model_copy(update={"redis_url": own_redis.url})) as address:
        own_redis.start()
        with redis.Redis.from_url(own_redis.url) as client:
            until(lambda: get(f"http://{address}/api/health")[1]["live"] == {"clients": 0, "subscribed": True})
            client.set(name, "old")
            own_redis.stop()
            own_redis.start()
            until(lambda: client.get(name) is None, what="it began to listen again")


def test_the_api_answers_again_once_the_database_is_back(
    settings: Settings, tmp_path: Path, redis_client: redis.Redis
) -> None:
    with PostgresServer(tmp_path) as server:
        migrate.upgrade(server.url)
        app = create_app(settings.model_copy(update={"database_url": server.url}))
        client = app.test_client()
        assert client.get("/api/charts/BTC-USDT").status_code == 200
        server.stop()
        for _ in range(2):
            answer = client.get("/api/charts/BTC-USDT")
            assert answer.status_code == 503
            assert "Traceback" not in answer.text
        assert client.get("/charts/binance/BTC-USDT").status_code == 503
        server.start()
        assert client.get("/api/charts/BTC-USDT").status_code == 200
        app.extensions["web"].engine.dispose()
        app.extensions["web"].redis.close()


def test_a_connection_that_died_in_the_pool_is_not_noticed(settings: Settings, redis_client: redis.Redis) -> None:
    app = create_app(settings)
    client = app.test_client()
    assert client.get("/api/symbols").status_code == 200
    killer = make_engine(settings)
    with killer.connect() as conn:
        conn.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'market web' AND datname = current_database()"
            )
        )
    killer.dispose()
    assert client.get("/api/symbols").status_code == 200
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()
