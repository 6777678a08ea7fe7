"""The platform's state over REST on real servers: what was seeded is told, and what is known without a store."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask import Flask

from app.bootstrap import platform
from app.cache import health, keys
from app.cache.signals import Signals
from app.config import Settings
from app.domain.bars import State
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.services.status import Facts
from app.storage import catalog, migrate
from tests.integration.web_data import bar, empty, store, utc
from webapp import create_app
from webapp.status import StatusAnswer

BEAT = {"exchange": "binance", "feed": "connected", "since": 1, "lag_ms": 1500}
LANES = ("feeds", "queue", "bars", "verified", "charts")


@pytest.fixture
def now_ms(engine: sa.Engine, redis_client: redis.Redis) -> int:
    """The time; the tables are empty."""
    empty(engine)
    return time.time_ns() // 1_000_000


@pytest.fixture
def app(settings: Settings, now_ms: int) -> Iterator[Flask]:
    made = create_app(settings.model_copy(update={"market": "live"}))
    yield made
    made.extensions["web"].engine.dispose()


def told(app: Flask) -> Any:
    answer = app.test_client().get("/api/status", headers={"Host": "127.0.0.1:8000"})
    assert answer.status_code == 200, answer.text
    StatusAnswer.model_validate(answer.json, extra="forbid")
    return answer.json


def lanes(answer: Any) -> dict[str, Any]:
    return {row["stage"]: row for row in answer["stages"]}


def test_what_was_seeded_is_told(app: Flask, engine: sa.Engine, redis_client: redis.Redis, now_ms: int) -> None:
    minute = now_ms - now_ms % MINUTE_MS
    with engine.begin() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
        conn.execute(
            sa.text(
                "INSERT INTO holes (instrument_id, lo, hi, cause, found, attempts, tried, error)"
                " VALUES (:i, :lo, :hi, 'feed down', :found, 3, :found, '429')"
            ),
            {"i": btc.id, "lo": utc(minute - 9 * MINUTE_MS), "hi": utc(minute), "found": utc(now_ms - 8 * MINUTE_MS)},
        )
        conn.execute(
            sa.text(
                "INSERT INTO backfills (instrument_id, timeframe, lo, hi, cursor, state, bars, started, updated)"
                " VALUES (:i, '1m', :lo, :hi, :at, 'running', 4320, :began, :now)"
            ),
            {"i": btc.id, "lo": utc(minute - 4 * DAY_MS), "hi": utc(minute), "at": utc(minute - DAY_MS),
             "began": utc(now_ms - 30_000), "now": utc(now_ms)},
        )  # fmt: skip
        conn.execute(
            sa.text(
                "INSERT INTO feeds (run, exchange, kind, shard, since, clock)"
                " VALUES (1, 'binance', 'live', '0/1', :t, :t)"
            ),
            {"t": utc(now_ms - 5000)},
        )
    store(engine, [bar(btc.id, minute - n * MINUTE_MS, state=State(min(n, 2))) for n in range(1, 5)])
    children = {
        "web": {"state": "ready", "pid": 7, "restarts": 0},
        "beat": {"state": "given up", "pid": None, "restarts": 5},
    }
    health.beat(redis_client, "up", {"pid": 1, "children": children})
    health.beat(redis_client, "streamer-binance", {**BEAT, "at": now_ms - 1000})
    health.count(redis_client, "repaired_bars", 12)
    redis_client.rpush("bars", *range(30))
    redis_client.rpush(keys.PARKED, b"x")
    answer = told(app)
    assert answer["status"] == "degraded" and answer["summary"]["level"] == "degraded"
    assert [trouble["what"] for trouble in answer["troubles"]] == [
        "beat is given up",
        "1 message is parked: it failed too often",
        "1 hole has waited over 5 minutes for repair",
    ]
    assert all(trouble["remedy"] for trouble in answer["troubles"])
    assert answer["summary"]["words"] == "beat is given up, and 2 more"
    processes = {row["name"]: row for row in answer["processes"]}
    assert (processes["web"]["pid"], processes["beat"]["restarts"]) == (7, 5)
    assert (
        processes["streamer-binance"]["state"] == "heard" and processes["streamer-binance"]["facts"]["lag_ms"] == 1500
    )
    feeds = {row["exchange"]: row for row in answer["feeds"]}
    assert (feeds["binance"]["feed"], feeds["alpaca"]["feed"]) == ("connected", "no_key")
    assert feeds["alpaca"]["missing"] == "ALPACA_API_KEY and ALPACA_SECRET_KEY" and feeds["binance"]["missing"] is None
    assert feeds["binance"]["markets"]["24/7"]["state"] == "open"
    assert {row["queue"]: row["waiting"] for row in answer["queues"]}["bars"] == 30 and answer["parked"] == 1
    (hole,) = answer["holes"]["newest"]
    assert (hole["reason"], hole["next_try"] - hole["tried"]) == ("the feed was down", 8000)
    (backfill,) = answer["backfills"]["at_work"]
    assert (backfill["done"], backfill["rate"], backfill["left_s"]) == (0.75, 144.0, 10.0)
    assert answer["counters"] == [
        {"reason": "repaired_bars", "count": 12, "meaning": "bars that repair changed or verified"}
    ]
    assert answer["database"]["ok"] and answer["database"]["bytes"] > 10**6 and answer["redis"]["bytes"] > 10**5
    stages = lanes(answer)
    assert tuple(stages) == LANES
    assert (stages["feeds"]["lag_s"], stages["feeds"]["count"], stages["feeds"]["of"]) == (1.5, 1, 2)
    assert (stages["queue"]["lag_s"], stages["queue"]["count"]) == (4.0, 30)
    assert (stages["bars"]["count"], stages["verified"]["count"], stages["verified"]["of"]) == (4, 3, 4)
    assert 60 <= stages["verified"]["lag_s"] < 180


def test_the_command_tells_the_same(
    app: Flask, settings: Settings, engine: sa.Engine, redis_client: redis.Redis, now_ms: int
) -> None:
    health.beat(redis_client, "streamer-binance", {**BEAT, "feed": "refused", "error": "451"})
    answer, facts = told(app), Facts()
    parts = platform(settings.model_copy(update={"market": "live"}), process="tests")
    parts.status.hear(facts, Signals(redis_client))
    with parts.engine.connect() as conn:
        parts.status.look(facts, conn, now_ms)
    parts.engine.dispose()
    assert [row._asdict() for row in facts.troubles] == answer["troubles"]
    assert facts.troubles[0].what == "Binance: the feed is refused: 451"
    assert (facts.notes, facts.verification) == (answer["notes"], answer["verification"])
    assert [(row["exchange"], row["feed"]) for row in facts.sources] == [
        (row["exchange"], row["feed"]) for row in answer["feeds"]
    ]


def test_all_is_well_in_words(app: Flask, engine: sa.Engine, redis_client: redis.Redis, now_ms: int) -> None:
    with engine.connect() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
    minute = now_ms - now_ms % MINUTE_MS
    store(engine, [bar(btc.id, minute - n * MINUTE_MS, state=State.VERIFIED) for n in range(1, 4)])
    health.beat(redis_client, "streamer-binance", {**BEAT, "at": now_ms})
    answer = told(app)
    assert (answer["status"], answer["troubles"]) == ("ok", [])
    assert answer["summary"] == {
        "level": "ok", "remedy": None, "words": "All is well: 1 feed connected, 100.0% of a day's bars are verified.",
    }  # fmt: skip


def test_many_askers_cost_one_look(app: Flask, engine: sa.Engine) -> None:
    asked: list[str] = []
    web = app.extensions["web"]
    sa.event.listen(web.engine, "before_cursor_execute", lambda *event: asked.append(event[2]))
    began = time.monotonic()
    answers = {told(app)["at"] for _ in range(5)}
    if time.monotonic() - began < 1:
        assert len(answers) == 1
    assert sum("last_trades" in text or "verified_ms" in text for text in asked) == len(answers)


def test_without_redis_the_database_still_speaks(settings: Settings, own_redis: RedisServer, now_ms: int) -> None:
    app = create_app(settings.model_copy(update={"redis_url": own_redis.url, "market": "live"}))
    own_redis.stop()
    answer = told(app)
    assert answer["status"] == "degraded" and not answer["redis"]["ok"] and answer["database"]["ok"]
    assert [row["what"] for row in answer["troubles"]] == ["Redis cannot be reached"]
    assert (answer["processes"], answer["queues"], answer["parked"]) == ([], [], None)
    stages = lanes(answer)
    assert {name: stages[name]["state"] for name in ("feeds", "queue", "charts")} == {
        "feeds": "unknown", "queue": "unknown", "charts": "broken",
    }  # fmt: skip
    own_redis.start()
    end = time.monotonic() + 60
    while (answer := told(app))["status"] != "ok" and time.monotonic() < end:
        time.sleep(0.2)
    assert answer["redis"]["ok"]
    app.extensions["web"].engine.dispose()


def test_without_the_database_redis_still_speaks(settings: Settings, tmp_path: Path, redis_client: redis.Redis) -> None:
    with PostgresServer(tmp_path) as server:
        migrate.upgrade(server.url)
        health.beat(redis_client, "streamer-binance", {**BEAT, "at": 1})
        app = create_app(settings.model_copy(update={"database_url": server.url, "market": "live"}))
        assert told(app)["database"]["ok"]
        server.stop()
        time.sleep(1.1)  # what was found serves for a second
        answer = told(app)
        assert answer["status"] == answer["summary"]["level"] == "down"
        assert answer["troubles"][0]["what"] == "The database cannot be reached" and answer["redis"]["ok"]
        assert lanes(answer)["bars"]["state"] == "broken" and answer["holes"] == {"open": 0, "late": 0, "newest": []}
        assert [row["name"] for row in answer["processes"]] == ["streamer-binance"]
        assert "Traceback" not in str(answer) and str(server.url) not in str(answer)
        app.extensions["web"].engine.dispose()


def test_flower_is_linked_where_it_can_be_reached(settings: Settings, now_ms: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as flower:
        port = flower.getsockname()[1]
        app = create_app(settings.model_copy(update={"flower_port": port}))
        assert told(app)["links"]["flower"] == f"http://127.0.0.1:{port}"
        elsewhere = app.test_client().get("/api/status", headers={"Host": "market.example"})
        assert elsewhere.json["links"]["flower"] is None, "it listens on loopback only"
    app.extensions["web"].engine.dispose()
    proxied = create_app(settings.model_copy(update={"flower_url": "https://market.example/flower"}))
    assert told(proxied)["links"]["flower"] == "https://market.example/flower"
    assert proxied.test_client().get("/status").status_code == 200
    assert proxied.test_client().get("/api/status?x=1").status_code == 400
    proxied.extensions["web"].engine.dispose()
