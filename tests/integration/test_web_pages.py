"""The pages as the server sends them: addresses, errors, what browsers may keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.config import Settings
from app.storage import catalog
from webapp import create_app


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[FlaskClient]:
    app = create_app(settings)
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


@pytest.mark.parametrize("address", ["/", "/multi", "/multi?layout=9&cells=,,@@,%00&link=%22"])
def test_a_page_without_an_instrument_is_a_page(client: FlaskClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC%2FUSDT", "btc-usdt", "BTC-usdt"])
def test_a_chart_has_one_address(client: FlaskClient, symbol: str) -> None:
    answer = client.get(f"/charts/binance/{symbol}?timeframe=5m")
    assert answer.status_code == 308
    assert answer.headers["Location"] == "/charts/binance/BTC-USDT?timeframe=5m"
    page = client.get(answer.headers["Location"])
    assert page.status_code == 200
    facts = re.search(r'<script type="application/json" id="instrument">(.*?)</script>', page.text, re.DOTALL)
    assert facts is not None
    assert json.loads(facts[1]) == {
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "title": "Binance",
        "price_decimals": 2,
        "time_zone": "UTC",
        "currency": "USDT",
        "calendar": "24/7",
        "asset_class": "crypto",
        "active": True,
    }


def test_a_symbol_with_a_dash_of_its_own_keeps_it(client: FlaskClient, engine: sa.Engine) -> None:
    with engine.begin() as conn:
        conn.execute(
            sa.text(
                "INSERT INTO instruments"
                " (exchange, symbol, wire_symbol, asset_class, currency, calendar, price_decimals)"
                " VALUES ('alpaca', 'BRK-B', 'BRK-B', 'stock', 'USD', 'XNYS', 2)"
            )
        )
        assert catalog.find(conn, "BRK-B").symbol == "BRK-B"
    assert client.get("/charts/alpaca/BRK-B").status_code == 200


@pytest.mark.parametrize("address", ["/charts/binance/NOPE", "/charts/kraken/BTC-USDT", "/nothing", "/charts/binance"])
def test_an_unknown_page_is_a_page(client: FlaskClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert answer.mimetype == "text/html"
    assert 'data-error-code="404"' in answer.text


def test_a_hostile_symbol_is_escaped(client: FlaskClient) -> None:
    assert "<script>alert" not in client.get("/charts/binance/<script>alert(1)</script>").text


def test_the_wrong_method_is_json_below_the_api(client: FlaskClient) -> None:
    answer = client.post("/api/symbols")
    assert answer.status_code == 405
    assert answer.get_json()["error"]["code"] == "method_not_allowed"


def test_a_plain_request_to_a_socket_is_refused_in_json(client: FlaskClient) -> None:
    answer = client.get("/ws/BTC-USDT")
    assert answer.status_code == 400
    assert "error" in answer.get_json()


def test_browsers_keep_what_has_a_version(client: FlaskClient, redis_client: redis.Redis) -> None:
    page = client.get("/").text
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert addresses
    versioned = [address for address in addresses if "?v=" in address]
    assert versioned
    bare = versioned[0].partition("?")[0]
    with client.get(versioned[0]) as answer:
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
    with client.get(bare) as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        tag = answer.headers["ETag"]
    with client.get(bare, headers={"If-None-Match": tag}) as answer:
        assert answer.status_code == 304
    with client.get("/favicon.ico") as answer:
        assert answer.status_code == 200
