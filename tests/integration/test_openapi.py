"""The OpenAPI document: whole, valid, and true of what is really answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import redis
import sqlalchemy as sa
from flask import Flask

from app.config import Settings
from tests.integration.api_market import START_MS, api, fill
from webapp.openapi import document, routes


@pytest.fixture(scope="module")
def app(settings: Settings, engine: sa.Engine) -> Iterator[Flask]:
    client = redis.Redis.from_url(settings.redis_url)
    client.flushdb()
    fill(engine, client)
    client.close()
    with pytest.MonkeyPatch.context() as patch, api(settings, patch) as made:
        yield made


@pytest.fixture(scope="module")
def told(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/api/openapi.json")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.get_json()
    return body


def test_every_route_below_the_api_is_described(app: Flask) -> None:
    missing = [f"{method} {rule.rule}" for rule, method, operation in routes(app) if operation is None]
    assert missing == [], "put @describe(…) of webapp.openapi on these views"


def test_the_document_is_openapi_3_1(told: dict[str, Any]) -> None:
    assert told["openapi"].startswith("3.1.")
    for schema in told["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    refs = set(re.findall(r"#/components/schemas/(\w+)", str(told)))
    assert refs == set(told["components"]["schemas"]), "a schema is missing, or nobody needs it"
    operations = [one for path in told["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["summary"]
        assert len({(each["in"], each["name"]) for each in one["parameters"]}) == len(one["parameters"])
        assert {"429", "500", "503"} <= one["responses"].keys()


def test_writes_ask_for_the_token(told: dict[str, Any]) -> None:
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            assert ("security" in operation) is (method != "get"), (method, path)
            if method != "get":
                assert operation["security"] == [{"token": []}]
                assert {"401", "403"} <= operation["responses"].keys()
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def validator(told: dict[str, Any], path: str, method: str, status: int, kind: str) -> Any:
    """What holds an answer against its schema in the document."""
    schema = told["paths"][path][method]["responses"][str(status)]["content"][kind]["schema"]
    return jsonschema_rs.validator_for({**schema, "components": told["components"]})


ANSWERS = [
    ("/api/symbols", "/api/symbols", 200),
    ("/api/exchanges", "/api/exchanges", 200),
    ("/api/instruments", "/api/instruments?active=1", 200),
    ("/api/instruments", "/api/instruments?foo=1", 400),
    ("/api/instruments/{exchange}/{symbol}", "/api/instruments/binance/btc-usdt", 200),
    ("/api/instruments/{exchange}/{symbol}", "/api/instruments/binance/NOPE", 404),
    ("/api/instruments/{exchange}/{symbol}", "/api/instruments/kraken/BTC-USDT", 404),
    ("/api/quotes", "/api/quotes", 200),
    ("/api/overview", "/api/overview", 200),
    ("/api/holes", "/api/holes?limit=1", 200),
    ("/api/holes", "/api/holes", 200),
    ("/api/differences", "/api/differences", 200),
    ("/api/charts/{symbol}", "/api/charts/BTC-USDT", 200),
    ("/api/charts/{symbol}", "/api/charts/BTC-USDT", 200),  # now from the cache
    ("/api/charts/{symbol}", "/api/charts/BTC-USDT?limit=5&indicators=rsi_14", 200),
    ("/api/charts/{symbol}", "/api/charts/THYAO.IS?timeframe=5m", 200),
    ("/api/charts/{symbol}", "/api/charts/THYAO.IS?format=columns&indicators=none", 200),
    ("/api/charts/{symbol}", "/api/charts/ETH-USDT?format=columns", 200),
    ("/api/charts/{symbol}", "/api/charts/BTC-USDT?limit=0", 400),
    ("/api/charts/{symbol}", "/api/charts/NOPE-USDT", 404),
    ("/api/health", "/api/health", 200),
    ("/api/health/live", "/api/health/live", 200),
    ("/api/health/ready", "/api/health/ready", 200),
]


@pytest.mark.parametrize(("path", "address", "status"), ANSWERS)
def test_answers_are_what_the_document_says(
    app: Flask, told: dict[str, Any], path: str, address: str, status: int
) -> None:
    answer = app.test_client().get(address)
    assert answer.status_code == status, answer.text
    validator(told, path, "get", status, answer.mimetype).validate(answer.get_json())


def test_the_schemas_refuse_what_is_not_answered(app: Flask, told: dict[str, Any]) -> None:
    """A schema that lets everything pass would prove nothing."""
    chart = app.test_client().get("/api/charts/THYAO.IS?indicators=none").get_json()
    holds = validator(told, "/api/charts/{symbol}", "get", 200, "application/json")
    holds.validate(chart)
    for wrong in ({"price": 1}, {"time": "now"}, {"state": "half"}, {"delayed": False}, {"volume": None}):
        assert not holds.is_valid({**chart, "bars": [{**chart["bars"][0], **wrong}]}), wrong
    assert not holds.is_valid({name: value for name, value in chart.items() if name != "feed"})


def test_real_answers_hold_every_part(app: Flask) -> None:
    """What is validated above is not empty: each list has a row, and each optional part was there."""
    client = app.test_client()
    overview = {row["symbol"]: row for row in client.get("/api/overview").get_json()["instruments"]}
    assert overview["AAPL"]["book"] is not None
    assert overview["TSLA"]["halt"] is not None
    assert overview["BTC/USDT"]["sparkline"]
    chart = client.get("/api/charts/BTC-USDT").get_json()
    assert chart["holes"] and chart["indicators"] and chart["bars"][0]["time"] == START_MS
    assert client.get("/api/charts/THYAO.IS").get_json()["bars"][0]["delayed"] is True
    assert client.get("/api/holes").get_json()["holes"][0]["first_id"] == 7
    assert [row["theirs"] for row in client.get("/api/differences").get_json()["differences"]] == [None, {"close": "2"}]
    assert client.get("/api/holes?limit=1").get_json()["next"] is not None
    state = client.get("/api/health").get_json()
    assert state["processes"] and state["counters"]


def test_parameters_have_their_types(told: dict[str, Any]) -> None:
    given = {one["name"]: one for one in told["paths"]["/api/charts/{symbol}"]["get"]["parameters"]}
    assert given["symbol"]["in"] == "path"
    assert given["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5000, "default": 1000}
    assert given["format"]["schema"]["enum"] == ["json", "csv", "columns"]
    assert given["exchange"]["schema"] == {"$ref": "#/components/schemas/Exchange"}
    assert given["indicators"]["schema"]["type"] == "string"
    assert given["start"]["required"] is False


def test_the_document_is_made_anew_from_the_routes(app: Flask, told: dict[str, Any]) -> None:
    assert document(app) == told
