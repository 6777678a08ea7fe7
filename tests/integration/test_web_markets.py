"""Market hours, delayed bars, bid and ask, halts, holes and differences over REST and WebSocket, on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.cache import health, keys
from app.config import Settings
from app.domain.bars import State
from app.domain.instruments import Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import catalog, sessions
from tests.integration.web_data import START_MS, bar, store, utc, wipe
from tests.integration.web_server import listen, web_server
from webapp import create_app

HOUR_MS = 60 * MINUTE_MS
OPEN_MS, CLOSE_MS = START_MS + 7 * HOUR_MS, START_MS + 15 * HOUR_MS  # XIST on Wednesday 15 November 2023


@pytest.fixture(scope="module")
def thyao(engine: sa.Engine) -> Instrument:
    with engine.connect() as conn:
        return catalog.find(conn, "THYAO.IS", "yahoo")


@pytest.fixture(scope="module")
def btc(engine: sa.Engine) -> Instrument:
    with engine.connect() as conn:
        return catalog.find(conn, "BTC/USDT", "binance")


@pytest.fixture(autouse=True)
def clean(engine: sa.Engine) -> None:
    wipe(engine)
    with engine.begin() as conn:
        for table in ("holes", "differences", "sessions"):
            conn.execute(sa.text(f"DELETE FROM {table}"))
        days = [Session(START_MS + n * DAY_MS, OPEN_MS + n * DAY_MS, CLOSE_MS + n * DAY_MS) for n in range(2)]
        sessions.put(conn, "XIST", days)


class Web:
    """The application in this process, its exchange clock where the test says."""

    def __init__(self, settings: Settings) -> None:
        self.now_ms = OPEN_MS
        self.app = create_app(settings)
        self.client: FlaskClient = self.app.test_client()

    def get(self, address: str, *, status: int = 200) -> Any:
        answer = self.client.get(address)
        assert answer.status_code == status, answer.text
        return answer.get_json()


@pytest.fixture
def web(settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr("webapp.composition.exchange_ms", lambda _: made.now_ms)
    made = Web(settings)
    yield made
    made.app.extensions["web"].engine.dispose()
    made.app.extensions["web"].redis.close()


def hole(
    engine: sa.Engine, instrument: Instrument, lo_ms: int, hi_ms: int, cause: str, *, repaired: bool = False
) -> None:
    with engine.begin() as conn:
        row = {"i": instrument.id, "lo": utc(lo_ms), "hi": utc(hi_ms), "c": cause}
        row |= {"found": utc(hi_ms), "r": utc(hi_ms + 1) if repaired else None}
        insert = (
            "INSERT INTO holes (instrument_id, lo, hi, cause, found, repaired) VALUES (:i, :lo, :hi, :c, :found, :r)"
        )
        conn.execute(sa.text(insert), row)


def told(row: Any) -> tuple[str, Any, Any]:
    return row["market"]["state"], row["market"]["until"], row["market"]["opens"]


def test_every_answer_tells_the_hours_of_its_market(web: Web) -> None:
    def rows(address: str) -> dict[str, Any]:
        return {row["symbol"]: row for row in web.get(address)["instruments"]}

    for address in ("/api/instruments", "/api/overview"):
        web.now_ms = OPEN_MS - 20 * MINUTE_MS
        web.app.extensions["web"].watch.refresh()
        found = rows(address)
        assert told(found["THYAO.IS"]) == ("open", CLOSE_MS + 10 * MINUTE_MS, None)
        assert told(found["BTC/USDT"]) == ("open", None, None)
        assert told(found["AAPL"]) == ("unknown", None, None)
        assert (found["THYAO.IS"]["delay_s"], found["BTC/USDT"]["delay_s"]) == (900, 0)
        web.now_ms = CLOSE_MS + 10 * MINUTE_MS
        web.app.extensions["web"].watch.refresh()
        assert told(rows(address)["THYAO.IS"]) == ("closed", None, OPEN_MS + DAY_MS - 20 * MINUTE_MS)
    chart = web.get("/api/charts/THYAO.IS")
    assert (told(chart)[0], chart["delay_s"], chart["feed"]) == ("closed", 900, "none")


def test_a_delayed_source_marks_its_bars(web: Web, engine: sa.Engine, thyao: Instrument, btc: Instrument) -> None:
    for instrument in (thyao, btc):
        store(engine, [bar(instrument.id, OPEN_MS + i * MINUTE_MS, state=State.VERIFIED) for i in range(3)])
    for address in ("/api/charts/THYAO.IS", "/api/charts/THYAO.IS?limit=2", "/api/charts/THYAO.IS?timeframe=5m"):
        assert {row.get("delayed") for row in web.get(address)["bars"]} == {True}
        assert {row.get("delayed") for row in web.get(address)["bars"]} == {True}, "from the cache too"
    assert not any("delayed" in row for row in web.get("/api/charts/BTC-USDT")["bars"])


def test_quotes_tell_bid_ask_and_halts(web: Web, redis_client: redis.Redis) -> None:
    book = {"bid": 189.2, "bid_size": 3, "ask": 189.24, "ask_size": 1, "time": OPEN_MS}
    halt = {"code": "T1", "reason": "Halt - News Pending", "time": OPEN_MS}
    redis_client.hset(keys.BOOK, "alpaca:AAPL", orjson.dumps(book))
    redis_client.hset(keys.HALTS, "alpaca:TSLA", orjson.dumps(halt))
    redis_client.hset(keys.QUOTES, "alpaca:AAPL", orjson.dumps({"price": 189.22, "time": OPEN_MS}))
    (apple,) = web.get("/api/quotes?symbol=AAPL")["quotes"]
    assert (apple["price"], apple["time"], apple["book"], apple["halt"]) == (189.22, OPEN_MS, book, None)
    found = {row["symbol"]: row for row in web.get("/api/quotes?exchange=alpaca")["quotes"]}
    assert found["TSLA"]["halt"] == halt
    assert "BTC/USDT" not in found
    rows = {row["symbol"]: row for row in web.get("/api/overview")["instruments"]}
    assert (rows["AAPL"]["book"], rows["TSLA"]["halt"], rows["META"]["book"]) == (book, halt, None)
    web.get("/api/quotes?symbol=NOPE", status=404)


def test_a_chart_tells_the_gaps_in_it(web: Web, engine: sa.Engine, btc: Instrument, thyao: Instrument) -> None:
    store(engine, [bar(btc.id, OPEN_MS + i * MINUTE_MS) for i in range(20) if i not in (5, 6, 7)])
    hole(engine, btc, OPEN_MS + 5 * MINUTE_MS, OPEN_MS + 8 * MINUTE_MS, "feed down")
    hole(engine, btc, OPEN_MS + 12 * MINUTE_MS, OPEN_MS + 13 * MINUTE_MS, "late trade")
    hole(engine, btc, OPEN_MS + 2 * MINUTE_MS, OPEN_MS + 3 * MINUTE_MS, "feed down", repaired=True)
    hole(engine, btc, OPEN_MS - 9 * MINUTE_MS, OPEN_MS - 8 * MINUTE_MS, "left")
    gap = {
        "start": OPEN_MS + 5 * MINUTE_MS, "end": OPEN_MS + 8 * MINUTE_MS, "cause": "feed down",
        "reason": "the feed was down", "found": OPEN_MS + 8 * MINUTE_MS,
    }  # fmt: skip
    for timeframe in ("1m", "5m"):
        assert web.get(f"/api/charts/BTC-USDT?timeframe={timeframe}")["holes"] == [gap]
        assert web.get(f"/api/charts/BTC-USDT?timeframe={timeframe}")["holes"] == [gap], "from the cache too"
    assert web.get(f"/api/charts/BTC-USDT?start={OPEN_MS}&limit=5000")["holes"] == [gap]
    assert web.get(f"/api/charts/BTC-USDT?end={OPEN_MS + 5 * MINUTE_MS}")["holes"] == []
    assert [one["cause"] for one in web.get("/api/charts/BTC-USDT?start=0")["holes"]] == ["left", "feed down"]

    # Over the night: only what the market was open for is a gap, and a native daily bar has none.
    hole(engine, thyao, CLOSE_MS, OPEN_MS + DAY_MS, "feed down")
    spans = [
        (one["start"] - CLOSE_MS, one["end"] - OPEN_MS - DAY_MS) for one in web.get("/api/charts/THYAO.IS")["holes"]
    ]
    assert spans == [
        (0, CLOSE_MS + 10 * MINUTE_MS - OPEN_MS - DAY_MS),
        (OPEN_MS + DAY_MS - 20 * MINUTE_MS - CLOSE_MS, 0),
    ]
    assert web.get("/api/charts/THYAO.IS?timeframe=1d")["holes"] == []


def test_holes_are_listed_page_by_page(web: Web, engine: sa.Engine, btc: Instrument, thyao: Instrument) -> None:
    for n in range(5):
        hole(engine, btc, OPEN_MS + n * HOUR_MS, OPEN_MS + n * HOUR_MS + MINUTE_MS, "feed down", repaired=n == 0)
    hole(engine, thyao, OPEN_MS, OPEN_MS + MINUTE_MS, "scan")
    first = web.get("/api/holes?limit=4")
    assert [row["symbol"] for row in first["holes"]] == ["THYAO.IS", "BTC/USDT", "BTC/USDT", "BTC/USDT"]
    second = web.get(f"/api/holes?limit=4&before={first['next']}")
    assert (len(second["holes"]), second["next"]) == (2, None)
    opened = web.get("/api/holes?exchange=binance&symbol=BTC-USDT&open=1")["holes"]
    assert [row["start"] for row in opened] == [OPEN_MS + n * HOUR_MS for n in (4, 3, 2, 1)]
    assert {row["reason"] for row in opened} == {"the feed was down"}
    assert web.get("/api/holes?limit=0", status=400)["error"]["message"].startswith("limit: ")
    assert web.get("/api/holes?symbol=NOPE", status=404)["error"]["code"] == "unknown_symbol"


def test_differences_are_listed_newest_first(web: Web, engine: sa.Engine, btc: Instrument) -> None:
    with engine.begin() as conn:
        for n in range(3):
            conn.execute(
                sa.text(
                    "INSERT INTO differences (instrument_id, timeframe, time, source, fields, ours, theirs)"
                    " VALUES (:i, '1m', :t, 'stream', '{volume}', '{\"volume\": \"1.5\"}', '{\"volume\": \"1.6\"}')"
                ),
                {"i": btc.id, "t": utc(START_MS + n * MINUTE_MS)},
            )
    body = web.get("/api/differences?symbol=BTC/USDT&exchange=binance&limit=2")
    assert [row["time"] for row in body["differences"]] == [START_MS + 2 * MINUTE_MS, START_MS + MINUTE_MS]
    newest = body["differences"][0]
    assert (newest["fields"], newest["ours"], newest["theirs"]) == (["volume"], {"volume": "1.5"}, {"volume": "1.6"})
    assert len(web.get(f"/api/differences?before={body['next']}")["differences"]) == 1


def test_with_every_key_absent_it_says_what_is_missing(settings: Settings, redis_client: redis.Redis) -> None:
    made = create_app(settings.model_copy(update={"market": "live", "alpaca_api_key": ""}))
    try:
        body = made.test_client().get("/api/overview").get_json()
        assert body["feeds"]["alpaca"]["feed"] == "no_key"
        assert body["feeds"]["alpaca"]["missing"] == "ALPACA_API_KEY and ALPACA_SECRET_KEY"
        assert {row["feed"] for row in body["instruments"] if row["exchange"] == "alpaca"} == {"no_key"}
        assert body["feeds"]["binance"]["feed"] == body["feeds"]["yahoo"]["feed"] == "none"
    finally:
        made.extensions["web"].engine.dispose()
        made.extensions["web"].redis.close()


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    with web_server(settings, MARKET="live") as found:
        yield found


def test_a_client_is_told_of_hours_quotes_halts_and_holes_as_they_change(
    address: str, engine: sa.Engine, redis_client: redis.Redis, btc: Instrument, thyao: Instrument
) -> None:
    now_ms = time.time_ns() // 1_000_000
    midnight_ms = now_ms - now_ms % DAY_MS
    with engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM sessions"))
        sessions.put(
            conn, "XIST", [Session(midnight_ms + 2 * DAY_MS, midnight_ms + 2 * DAY_MS, midnight_ms + 3 * DAY_MS)]
        )
    store(engine, [bar(thyao.id, OPEN_MS), bar(thyao.id, OPEN_MS + MINUTE_MS)])
    opens_ms = midnight_ms + 2 * DAY_MS - 20 * MINUTE_MS
    with listen(address, "/ws/THYAO.IS") as client, listen(address, "/ws/overview") as overview:
        assert client.wait("initial")["holes"] == []
        market = client.wait("status")["market"]
        while market is None or market["state"] != "closed":  # hours are read within seconds of the first client
            market = client.wait("status")["market"]
        assert market == {"calendar": "XIST", "state": "closed", "until": None, "opens": opens_ms}
        assert datetime.fromtimestamp(opens_ms / 1000, UTC) > datetime.now(UTC)

        health.beat(redis_client, "poller-yahoo", {"exchange": "yahoo", "feed": "refused", "error": "403: blocked"})
        state = client.wait("status", feed="refused")
        assert (state["error"], state["delay_s"]) == ("403: blocked", 900)

        book = {"bid": 250.5, "bid_size": 1, "ask": 250.75, "ask_size": 2, "time": now_ms}
        redis_client.hset(keys.BOOK, thyao.key, orjson.dumps(book))
        assert client.wait("quote") == {"book": book, "halt": None}
        (row,) = overview.wait("quotes")
        assert row == {"exchange": "yahoo", "symbol": "THYAO.IS", "book": book, "halt": None}
        redis_client.hdel(keys.BOOK, thyao.key)
        assert client.wait("quote") == {"book": None, "halt": None}

        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM sessions"))  # hours that nobody knows cut no hole
        hole(engine, thyao, OPEN_MS + 2 * MINUTE_MS, OPEN_MS + 5 * MINUTE_MS, "feed down")
        while not (found := client.wait("holes")):
            pass  # the first look, which found none
        (gap,) = found
        assert (gap["start"], gap["end"]) == (OPEN_MS + 2 * MINUTE_MS, OPEN_MS + 5 * MINUTE_MS)
        with engine.begin() as conn:
            conn.execute(sa.text("UPDATE holes SET repaired = now()"))
        assert client.wait("holes") == []


def test_a_live_update_of_a_delayed_source_says_so(
    address: str, redis_client: redis.Redis, engine: sa.Engine, thyao: Instrument
) -> None:
    from tests.integration.web_data import update

    minute = bar(thyao.id, OPEN_MS)
    store(engine, [minute])
    with listen(address, f"/ws/THYAO.IS?timeframe={Timeframe.M1.value}") as client:
        client.wait("initial")
        later = bar(thyao.id, OPEN_MS + MINUTE_MS, price=120.0)
        redis_client.publish(keys.CHART_UPDATES, orjson.dumps(update("THYAO.IS", thyao.id, {"1m": [later]})))
        assert client.bar(later.time_ms)["bar"]["delayed"] is True
