"""`python -m app status` on real servers: what is trouble, what only worth a note, and what is told of the bars."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from app.cache import health, keys
from app.config import ROOT, Settings
from app.domain.bars import State
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.storage import catalog, sessions
from tasks import upkeep
from tests.integration.web_data import bar, store, utc, wipe

HOUR_MS = 60 * MINUTE_MS


@pytest.fixture
def now_ms(engine: sa.Engine, redis_client: redis.Redis) -> Iterator[int]:
    """The time; the tables are empty."""
    wipe(engine)
    with engine.begin() as conn:
        for table in ("holes", "differences", "sessions", "backfills"):
            conn.execute(sa.text(f"DELETE FROM {table}"))
    yield time.time_ns() // 1_000_000


def status(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ, "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "MARKET": "live",
        "DATA_DIR": str(settings.data_dir), "NO_COLOR": "1", "COLUMNS": "200", **more,
    }  # fmt: skip
    command = [sys.executable, "-m", "app", "status", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def told(settings: Settings, **more: str) -> tuple[int, Any]:
    answer = status(settings, "--json", **more)
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


def test_a_closed_market_and_a_missing_key_are_no_trouble(
    settings: Settings, engine: sa.Engine, redis_client: redis.Redis, now_ms: int
) -> None:
    opens_ms = now_ms - now_ms % DAY_MS + 2 * DAY_MS
    with engine.begin() as conn:
        for calendar in ("XNYS", "XIST"):
            days = [opens_ms, opens_ms + 60 * DAY_MS]  # the calendar goes on
            sessions.put(conn, calendar, [Session(day_ms, day_ms, day_ms + 8 * HOUR_MS) for day_ms in days])
    health.beat(
        redis_client, "streamer-binance", {"exchange": "binance", "feed": "connected", "since": 1, "at": now_ms}
    )
    health.beat(redis_client, "poller-yahoo", {"exchange": "yahoo", "feed": "closed"})
    with engine.begin() as conn:
        conn.execute(
            sa.text(
                "INSERT INTO holes (instrument_id, lo, hi, cause, found)"
                " SELECT id, :lo, :lo + interval '1 hour', 'feed down', :lo FROM instruments WHERE symbol = 'AAPL'"
            ),
            {"lo": utc(now_ms - DAY_MS)},
        )
    code, facts = told(settings)
    assert (code, facts["status"], facts["troubles"]) == (0, "ok", [])
    assert (facts["open_holes"], facts["holes"]) == (0, []), "nobody can fill what Alpaca's key was for"
    assert facts["notes"] == ["Alpaca is not collected: set ALPACA_API_KEY and ALPACA_SECRET_KEY"]
    sources = {row["exchange"]: row for row in facts["sources"]}
    assert {name: row["feed"] for name, row in sources.items()} == {
        "binance": "connected", "alpaca": "no_key", "yahoo": "closed",
    }  # fmt: skip
    assert sources["binance"]["markets"] == {"24/7": "always open"}
    assert sources["yahoo"]["markets"]["XIST"].startswith("closed, opens ")
    assert facts["sessions"]["XNYS"]["opens"] == opens_ms
    text = status(settings).stdout
    assert "set ALPACA_API_KEY and ALPACA_SECRET_KEY" in text
    assert text.count("poller-yahoo") == 1
    assert "waits for its market to open, delayed 15 min" in text


def test_a_refused_key_is_trouble(settings: Settings, redis_client: redis.Redis, now_ms: int) -> None:
    said = {"exchange": "alpaca", "feed": "refused", "error": "auth failed (402)"}
    health.beat(redis_client, "streamer-alpaca", said)
    code, facts = told(settings, ALPACA_API_KEY="wrong", ALPACA_SECRET_KEY="wrong")
    assert (code, facts["troubles"]) == (1, ["Alpaca: the feed is refused: auth failed (402)"])
    assert "the sessions of XIST are not known yet" in facts["notes"]


def test_holes_verification_and_backfills_are_told(settings: Settings, engine: sa.Engine, now_ms: int) -> None:
    minute = now_ms - now_ms % MINUTE_MS
    with engine.begin() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
        conn.execute(
            sa.text(
                "INSERT INTO holes (instrument_id, lo, hi, cause, found, attempts, error)"
                " VALUES (:i, :lo, :hi, 'feed down', :found, 3, '429 Too Many Requests')"
            ),
            {"i": btc.id, "lo": utc(minute - HOUR_MS), "hi": utc(minute), "found": utc(now_ms - 8 * MINUTE_MS)},
        )
        conn.execute(
            sa.text(
                "INSERT INTO differences (instrument_id, timeframe, time, source, fields, ours, theirs)"
                " VALUES (:i, '1m', :t, 'stream', '{close}', '{}', '{}')"
            ),
            {"i": btc.id, "t": utc(minute - MINUTE_MS)},
        )
        conn.execute(
            sa.text(
                "INSERT INTO backfills (instrument_id, timeframe, lo, hi, cursor, state, bars)"
                " VALUES (:i, '1m', :lo, :hi, :at, 'running', 1234)"
            ),
            {"i": btc.id, "lo": utc(minute - 4 * DAY_MS), "hi": utc(minute), "at": utc(minute - DAY_MS)},
        )
    store(
        engine,
        [bar(btc.id, minute - n * MINUTE_MS, state=State.VERIFIED if n > 1 else State.CLOSED) for n in range(1, 5)],
    )
    code, facts = told(settings)
    assert code == 1
    (hole,) = facts["holes"]
    assert (hole["exchange"], hole["symbol"], hole["cause"], hole["attempts"]) == (
        "binance",
        "BTC/USDT",
        "feed down",
        3,
    )
    assert (hole["start"], hole["end"], hole["error"]) == (minute - HOUR_MS, minute, "429 Too Many Requests")
    verified = {row["exchange"]: row for row in facts["verification"]}["binance"]
    assert (verified["closed"], verified["verified"], verified["share"], verified["differences"]) == (4, 3, 0.75, 1)
    (backfill,) = facts["backfills"]
    assert (backfill["state"], backfill["bars"], backfill["done"]) == ("running", 1234, 0.75)
    text = status(settings).stdout
    for words in ("Holes that wait for repair: 1", "8 min", "429 Too Many Requests", "75.0%", "1,234"):
        assert words in text


def test_each_process_is_told_once_and_its_trouble_too(
    settings: Settings, redis_client: redis.Redis, now_ms: int
) -> None:
    children = {
        "web": {"state": "ready", "pid": 7, "restarts": 0},
        "beat": {"state": "given up", "pid": None, "restarts": 5},
    }
    health.beat(redis_client, "up", {"pid": 1, "children": children})
    health.beat(redis_client, "web", {"pid": 7})
    health.beat(redis_client, "worker@b", {"pid": 9, "pool": 2})
    old = json.dumps({"pid": 3, "beat_ms": now_ms - 90_000})
    redis_client.hset(keys.HEALTH, mapping={"beat": old, "flower": old})
    code, facts = told(settings)
    assert (code, facts["status"]) == (1, "degraded")
    assert [(row["name"], row["state"], row["pid"]) for row in facts["processes"]] == [
        ("web", "ready", 7), ("beat", "given up", None), ("flower", "silent", 3), ("worker@b", "heard", 9),
    ]  # fmt: skip
    first, second = facts["troubles"]
    assert first == "beat is given up" and second.startswith("flower has not been heard of for ")


def test_tidying_forgets_shards_whose_symbols_others_have(
    settings: Settings, engine: sa.Engine, redis_client: redis.Redis, now_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"exchange": "binance", "feed": "connected", "since": now_ms, "at": now_ms}
    health.beat(redis_client, "streamer-binance", {**facts, "shard": "0/1"})
    for name, shard in (("streamer-binance-0", "0/2"), ("streamer-binance-1", "1/2")):
        redis_client.hset(keys.HEALTH, name, json.dumps({**facts, "shard": shard, "beat_ms": now_ms - 90_000}))
    parts = SimpleNamespace(redis=redis_client, engine=engine, settings=settings)
    monkeypatch.setattr(upkeep, "platform", lambda: parts)
    upkeep.tidy()
    assert health.names(redis_client) == ["streamer-binance"]


@pytest.mark.slow
def test_the_exit_code_tells_what_the_api_would(settings: Settings, redis_client: redis.Redis, now_ms: int) -> None:
    code, facts = told(settings, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (code, facts["status"]) == (2, "down")
    assert facts["troubles"][0].startswith("the database cannot be reached")
    code, facts = told(settings, REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, facts["status"]) == (1, "degraded") and facts["troubles"][0].startswith("Redis cannot be reached")
    nothing = status(settings, DATABASE_URL="", REDIS_URL="")
    assert (nothing.returncode, nothing.stdout) == (2, "") and nothing.stderr.startswith("error: nothing runs on")
