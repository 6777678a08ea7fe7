"""The watchlist over REST: symbols come and go by the exchange's word, and nothing else is let in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient
from loguru import logger

from app.cache import keys
from app.config import Settings
from app.domain.instruments import Exchange
from app.errors import BadInput, Forbidden, SourceAway, UnknownInstrument
from app.storage import catalog
from tests.integration.api_market import AUTHORIZED, TOKEN, api
from tests.integration.web_server import web_server
from tests.sandbox import start_sandbox
from webapp import listings

ALL = "/api/instruments"


@pytest.fixture
def client(settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    with api(settings, monkeypatch) as app:
        yield app.test_client()


def send(client: FlaskClient, method: str, path: str, body: Any = None, *, status: int) -> Any:
    answer = client.open(path, method=method, json=body, headers=AUTHORIZED)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def heard(listener: Any) -> int:
    """How many hints came since the last time."""
    found = 0
    while (message := listener.get_message(timeout=0.2)) is not None:
        found += message["type"] == "message"
    return found


def test_one_comes_changes_and_goes(client: FlaskClient, redis_client: redis.Redis, engine: sa.Engine) -> None:
    listener = redis_client.pubsub()
    listener.subscribe(keys.WATCHLIST)
    heard(listener)
    answer = client.post(ALL, json={"exchange": "binance", "symbol": "doge-usdt"}, headers=AUTHORIZED)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{ALL}/binance/DOGE-USDT"
    made = answer.get_json()
    assert (made["symbol"], made["active"], made["price_decimals"], made["currency"]) == ("DOGE/USDT", True, 4, "USDT")
    assert client.get(answer.headers["Location"]).get_json() == made
    assert heard(listener) == 1, "running streamers are told"
    assert send(client, "POST", ALL, {"exchange": "binance", "symbol": "DOGE/USDT"}, status=200) == made
    assert heard(listener) == 0, "it was collected already"

    place = f"{ALL}/binance/DOGE-USDT"
    assert send(client, "PATCH", place, {"price_decimals": 6}, status=200)["price_decimals"] == 6
    assert send(client, "PATCH", place, {"active": False}, status=200)["active"] is False
    assert heard(listener) == 1
    with engine.connect() as conn:
        item = catalog.find(conn, "DOGE/USDT", "binance")
    assert (item.active, item.price_decimals) == (False, 6)
    back = send(client, "PATCH", place, {"active": True, "price_decimals": 5}, status=200)
    assert (back["active"], back["price_decimals"]) == (True, 5)
    assert send(client, "DELETE", f"{ALL}/binance/DOGE%2FUSDT", status=200)["active"] is False
    assert heard(listener) == 2
    assert send(client, "DELETE", place, status=200)["active"] is False
    assert heard(listener) == 0
    assert [row["symbol"] for row in client.get(f"{ALL}?active=1").get_json()["instruments"]].count("DOGE/USDT") == 0
    assert client.get(place).get_json()["active"] is False


@pytest.mark.parametrize(
    ("symbol", "exchange", "status", "code", "word"),
    [
        ("GONE/USDT", "binance", 404, "unknown_symbol", "lists no GONE/USDT (Invalid symbol)"),
        ("HALTED", "alpaca", 400, "bad_parameter", "gives its status as 'inactive'"),
        ("BTCUSDT", "binance", 400, "bad_parameter", "write it like BTC/USDT"),
        ("A\x00/USDT", "binance", 400, "bad_parameter", "write it like BTC/USDT"),
        ("AWAY/USDT", "binance", 503, "exchange_unavailable", "does not answer"),
        ("KEYLESS", "alpaca", 503, "exchange_unavailable", "ALPACA_API_KEY"),
    ],
)
def test_a_refusal_has_the_exchange_s_word(
    client: FlaskClient, engine: sa.Engine, symbol: str, exchange: str, status: int, code: str, word: str
) -> None:
    before = client.get(ALL).get_json()
    error = send(client, "POST", ALL, {"exchange": exchange, "symbol": symbol}, status=status)["error"]
    assert error["code"] == code
    assert word in error["message"]
    assert client.get(ALL).get_json() == before


GOOD = {"exchange": "binance", "symbol": "DOT/USDT"}


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b'{"exchange": "binance"}', "application/json", 400, "symbol: "),
        (b'{"exchange": "kraken", "symbol": "DOT/USDT"}', "application/json", 400, "exchange: "),
        (b'{"exchange": "binance", "symbol": 5}', "application/json", 400, "symbol: "),
        (b'{"exchange": "binance", "symbol": "X", "force": true}', "application/json", 400, "force: unknown field"),
        (b'{"exchange": "binance", "symbol"', "application/json", 400, "Invalid JSON"),
        (b"\xff\xfe", "application/json", 400, "Invalid JSON"),
        (b"[]", "application/json", 400, ""),
        (b"", "application/json", 400, ""),
        (b"exchange=binance&symbol=X", "application/x-www-form-urlencoded", 415, "application/json"),
        (b'{"exchange": "binance", "symbol": "X"}', None, 415, "application/json"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(
    client: FlaskClient, body: bytes, kind: str | None, status: int, said: str
) -> None:
    answer = client.post(ALL, data=body, content_type=kind, headers=AUTHORIZED)
    assert answer.status_code == status, answer.text
    error = answer.get_json()["error"]
    assert said in error["message"]
    assert error["code"] == {400: "bad_parameter", 415: "unsupported_media_type"}[status]


@pytest.mark.parametrize(
    "body", [{}, {"active": "yes"}, {"price_decimals": 11}, {"price_decimals": -1}, {"symbol": "X"}, {"active": None}]
)
def test_a_change_that_cannot_be_made_is_refused(client: FlaskClient, body: dict[str, Any]) -> None:
    before = client.get(f"{ALL}/binance/BTC-USDT").get_json()
    send(client, "PATCH", f"{ALL}/binance/BTC-USDT", body, status=400)
    assert client.get(f"{ALL}/binance/BTC-USDT").get_json() == before


@pytest.mark.parametrize("place", ["binance/NOPE-USDT", "kraken/BTC-USDT", "binance/A%00B", "alpaca/BTC-USDT"])
def test_what_is_not_there_cannot_be_changed(client: FlaskClient, place: str) -> None:
    for method, body in (("GET", None), ("PATCH", {"active": False}), ("DELETE", None)):
        assert send(client, method, f"{ALL}/{place}", body, status=404)["error"]["code"] == "unknown_symbol"


@pytest.mark.slow
def test_an_exchange_is_asked_in_a_process_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_sandbox(symbols="BTC/USDT", history_hours=1) as market:
        for name in ("database_url", "redis_url", "data_dir", "log_dir"):
            monkeypatch.setenv(name.upper(), str(getattr(settings, name)))
        monkeypatch.setenv("BINANCE_API_URL", market.url)
        found = listings.look(Exchange.BINANCE, "BTC/USDT")
        assert (found.symbol, found.currency, found.price_decimals, found.status) == ("BTC/USDT", "USDT", 2, "")
        with pytest.raises(UnknownInstrument, match="binance lists no NO/SUCH"):
            listings.look(Exchange.BINANCE, "NO/SUCH")


@pytest.mark.slow
def test_others_are_served_while_an_exchange_is_asked(settings: Settings, engine: sa.Engine) -> None:
    with (
        start_sandbox(symbols="BTC/USDT,XRP/USDT", history_hours=1) as market,
        web_server(settings, BINANCE_API_URL=market.url, API_TOKEN=TOKEN) as address,
        ThreadPoolExecutor(1) as pool,
    ):
        body = b'{"exchange": "binance", "symbol": "XRP/USDT"}'
        headers = {**AUTHORIZED, "Content-Type": "application/json"}
        began = time.monotonic()
        for _ in range(5):
            urlopen(f"http://{address}/api/health/live", timeout=30).close()
        usual_s = (time.monotonic() - began) / 5
        asked = pool.submit(urlopen, Request(f"http://{address}{ALL}", body, headers), timeout=60)
        waits = []
        while not asked.done():
            began = time.monotonic()
            with urlopen(f"http://{address}/api/health/live", timeout=30) as answer:
                assert answer.status == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
        with asked.result() as answer:
            assert answer.status == 201
    logger.info("{} requests meanwhile, the longest took {:.3f} s", len(waits), max(waits))
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 0.2 + 5 * usual_s
    with engine.connect() as conn:
        assert catalog.find(conn, "XRP/USDT", "binance").active


@pytest.mark.parametrize(
    ("said", "error", "word"),
    [
        (b'{"refused": "UnknownInstrument", "message": "no X"}', UnknownInstrument, "no X"),
        (b'{"refused": "BadInput", "message": "no market"}', BadInput, "no market"),
        (b'{"refused": "Forbidden", "message": "no key"}', Forbidden, "no key"),
        (b'{"refused": "RateLimited", "message": "wait"}', SourceAway, "wait"),
        (b"", SourceAway, "could not be asked"),
        (b"Traceback", SourceAway, "could not be asked"),
        (b"[]", SourceAway, "could not be asked"),
        (b'{"currency": "USD"}', SourceAway, "could not be asked"),
    ],
)
def test_what_that_process_says_is_understood(said: bytes, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        listings.parse(b"a warning\n" + said + b"\n", exchange=Exchange.ALPACA, symbol="X")
