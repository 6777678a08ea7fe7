"""Backfills over REST on real servers: asked for, looked at page by page, done by the service, ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.bootstrap import platform
from app.cache.trade_queue import HINT_S
from app.config import Settings
from app.domain.bars import Bar, Origin
from app.domain.instruments import Instrument
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.local.redis import RedisServer
from tests.integration.web_data import bar, wipe
from tests.keeping import retain
from webapp import create_app
from webapp.backfills import BackfillList, BackfillRow, BackfillsQueued

TOKEN = "a token of these tests"


class Source:
    """A history that has every minute."""

    def klines(self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> list[Bar]:
        """See History."""
        times = range(start_ms, min(end_ms, start_ms + limit * timeframe.ms), timeframe.ms)
        return [bar(instrument.id, time_ms, origin=Origin.EXCHANGE) for time_ms in times]


@pytest.fixture
def now_ms(engine: sa.Engine, redis_client: redis.Redis) -> int:
    """The start of this minute; the tables are empty, and nobody keeps bars for a while only."""
    wipe(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("TRUNCATE backfills, coverage, touched, holes RESTART IDENTITY"))
    retain(engine, {})
    now_ms = time.time_ns() // 1_000_000
    return now_ms - now_ms % MINUTE_MS


@pytest.fixture
def client(settings: Settings, now_ms: int) -> Iterator[FlaskClient]:
    app = create_app(settings.model_copy(update={"market": "live", "api_token": SecretStr(TOKEN)}))
    yield writer(app)
    app.extensions["web"].engine.dispose()


def writer(app: Flask) -> FlaskClient:
    """A client whose every request carries the token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client


def ask(client: FlaskClient, status: int = 202, **body: Any) -> Any:
    answer = client.post("/api/backfills", json=body)
    assert answer.status_code == status, answer.text
    return answer.json


def refusal(client: FlaskClient, **body: Any) -> tuple[str, str]:
    error = ask(client, 400, **body)["error"]
    return error["code"], error["message"]


def test_one_is_asked_for_fetched_and_looked_at(client: FlaskClient, settings: Settings, now_ms: int) -> None:
    start = now_ms - 120 * MINUTE_MS
    said = ask(client, symbol="btc-usdt", exchange="binance", timeframe="1m", start=start, end=now_ms - 60 * MINUTE_MS)
    BackfillsQueued.model_validate(said, extra="forbid")
    (row,) = said["backfills"]
    assert (row["symbol"], row["state"], row["bars"], row["note"]) == ("BTC/USDT", "waiting", 0, "waits for its turn")
    assert said["note"] is None and client.application.extensions["web"].redis.llen("backfill") == 1
    parts = platform(settings.model_copy(update={"market": "live"}), process="tests")
    work = replace(parts.backfill, history=lambda _: Source())
    assert work.due() == [row["id"]]
    assert not work.run(row["id"])
    parts.engine.dispose()
    done = client.get(f"/api/backfills/{row['id']}").json
    BackfillRow.model_validate(done, extra="forbid")
    assert (done["state"], done["done"], done["bars"], done["left_s"], done["error"]) == ("done", 1.0, 60, None, None)
    assert done["rate"] > 0 and (done["start"], done["end"]) == (start, now_ms - 60 * MINUTE_MS)
    over = client.delete(f"/api/backfills/{row['id']}")
    assert (over.status_code, over.json["error"]["code"]) == (409, "backfill_over")
    assert over.json["error"]["message"] == f"backfill {row['id']} is done: there is nothing to cancel"


def test_several_symbols_and_a_whole_watchlist_at_once(client: FlaskClient, now_ms: int) -> None:
    some = [{"exchange": "binance", "symbol": "ETH/USDT"}, {"symbol": "AAPL", "exchange": "alpaca"}]
    said = ask(client, symbols=some, timeframe="1h", start="2025-11-03", end="2025-11-05T12:00")
    assert [(row["exchange"], row["symbol"]) for row in said["backfills"]] == [
        ("alpaca", "AAPL"),
        ("binance", "ETH/USDT"),
    ]
    assert {row["end"] - row["start"] for row in said["backfills"]} == {60 * 3_600_000}
    every = ask(client, all=True, exchange="yahoo", timeframe="1d", start=now_ms - 40 * DAY_MS)
    assert sorted(row["symbol"] for row in every["backfills"]) == [
        "AKBNK.IS", "GARAN.IS", "ISCTR.IS", "SISE.IS", "THYAO.IS",
    ]  # fmt: skip
    assert len(ask(client, all=True, start=now_ms - DAY_MS)["backfills"]) == 17


def test_the_list_is_paged_and_filtered(client: FlaskClient, now_ms: int) -> None:
    ids = [ask(client, symbol="BTC/USDT", start=now_ms - n * DAY_MS)["backfills"][0]["id"] for n in (1, 2, 3)]
    ask(client, symbol="ETH/USDT", start=now_ms - DAY_MS)
    assert client.delete(f"/api/backfills/{ids[1]}").json["state"] == "cancelled"
    assert client.delete(f"/api/backfills/{ids[1]}").status_code == 200, "to ask twice for an end is no mistake"
    first = client.get("/api/backfills?symbol=BTC-USDT&limit=2").json
    BackfillList.model_validate(first, extra="forbid")
    assert [row["id"] for row in first["backfills"]] == [ids[2], ids[1]] and first["next"] == ids[1]
    rest = client.get(f"/api/backfills?symbol=BTC-USDT&limit=2&before={first['next']}").json
    assert ([row["id"] for row in rest["backfills"]], rest["next"]) == ([ids[0]], None)
    active = client.get("/api/backfills?active=1&exchange=binance").json["backfills"]
    assert [row["symbol"] for row in active] == ["ETH/USDT", "BTC/USDT", "BTC/USDT"]
    assert {row["state"] for row in active} == {"waiting"}


def test_a_body_nested_too_deep_is_refused(client: FlaskClient) -> None:
    answer = client.post("/api/backfills", data="[" * 30_000, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"] == "the body is nested too deep"


def test_what_cannot_be_fetched_is_refused_with_its_name(client: FlaskClient, engine: sa.Engine, now_ms: int) -> None:
    start = now_ms - DAY_MS
    assert refusal(client, symbol="BTC/USDT")[0] == "bad_parameter"
    assert refusal(client, symbol="BTC/USDT", start="yesterday")[1].startswith("start: use milliseconds")
    assert refusal(client, start=start)[1].startswith("symbol: say what to fetch")
    assert refusal(client, symbol="BTC/USDT", all=True, start=start)[1].startswith("symbol: say what to fetch")
    assert refusal(client, symbol="BTC/USDT", start=start, speed=9) == ("bad_parameter", "speed: unknown parameter")
    assert refusal(client, symbol="BTC/USDT", start=start, timeframe="2m")[1].startswith("timeframe: ")
    assert refusal(client, symbols=[], start=start)[1].startswith("symbols: ")
    assert refusal(client, symbol="BTC/USDT", start=now_ms, end=start)[0] == "bad_range"
    assert refusal(client, symbol="BTC/USDT", start=now_ms + DAY_MS)[0] == "bad_range"
    assert refusal(client, symbol="THYAO.IS", start=now_ms - 5 * MINUTE_MS)[1].startswith("the range is too new")
    unknown = client.post("/api/backfills", json={"symbol": "NO/PE", "start": start})
    assert (unknown.status_code, unknown.json["error"]["code"]) == (404, "unknown_symbol")
    for number in (999, 2**70):
        for call in (client.get, client.delete):
            answer = call(f"/api/backfills/{number}")
            assert (answer.status_code, answer.json["error"]["code"]) == (404, "unknown_backfill")
    assert client.post("/api/backfills", data="{", content_type="application/json").status_code == 400
    assert client.post("/api/backfills", json=[1]).status_code == 400
    assert client.get("/api/backfills").json == {"backfills": [], "next": None}, "none of them was noted"


def test_what_would_be_deleted_again_is_kept_on_request(client: FlaskClient, engine: sa.Engine, now_ms: int) -> None:
    retain(engine, {"1h": 30})
    body = {"symbol": "BTC/USDT", "start": now_ms - 90 * DAY_MS, "end": now_ms - 80 * DAY_MS, "timeframe": "1h"}
    code, message = refusal(client, **body)
    assert code == "not_kept" and 'have them kept ("keep": true)' in message
    assert ask(client, **body, keep=True)["kept"] == ["1h"]


def test_without_a_broker_it_is_noted_all_the_same(
    settings: Settings, redis_client: redis.Redis, own_redis: RedisServer, now_ms: int
) -> None:
    doors = {"market": "live", "api_token": SecretStr(TOKEN), "celery_broker_url": own_redis.url}
    app = create_app(settings.model_copy(update=doors))
    client = writer(app)
    ask(client, symbol="BTC/USDT", start=now_ms - 2 * DAY_MS)  # everything that is made once is made
    own_redis.stop()
    began = time.monotonic()
    ask(client, 400, symbol="BTC/USDT", start=now_ms + DAY_MS)  # what a request takes on this machine now
    usual_s = time.monotonic() - began
    began = time.monotonic()
    said = ask(client, symbol="BTC/USDT", start=now_ms - DAY_MS)
    assert time.monotonic() - began < HINT_S + 1.5 + 5 * usual_s
    assert "begin once it is back" in said["note"]
    assert client.get("/api/backfills").json["backfills"][0]["id"] == said["backfills"][0]["id"]
    app.extensions["web"].engine.dispose()
