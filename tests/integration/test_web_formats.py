"""Charts as CSV and as columns; tags, and answers that are compressed."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from typing import Any

import brotli
import orjson
import pytest
import redis
import sqlalchemy as sa
from backports import zstd
from flask.testing import FlaskClient

from app.cache import charts as cache
from app.config import Settings
from app.domain.bars import State
from app.domain.indicator_names import INDICATORS
from app.storage import catalog
from tests.integration.api_market import BARS, NOW_MS, api, fill
from tests.integration.web_data import bar, store
from webapp.tagged import Kept

CHART = "/api/charts/BTC-USDT"


@pytest.fixture
def client(
    settings: Settings, engine: sa.Engine, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlaskClient]:
    fill(engine, redis_client)
    with api(settings, monkeypatch) as app:
        yield app.test_client()


@pytest.mark.parametrize("query", ["", "limit=7", "indicators=none", "indicators=sma_20,rsi_14", "timeframe=5m"])
def test_columns_and_csv_say_what_the_json_says(client: FlaskClient, query: str) -> None:
    chart = client.get(f"{CHART}?{query}").get_json()
    columns = client.get(f"{CHART}?{query}&format=columns").get_json()
    rows = {row["time"]: row for row in chart["indicators"]}
    names = {"none": [], "sma_20,rsi_14": ["sma_20", "rsi_14"]}.get(query.removeprefix("indicators="), list(INDICATORS))
    assert list(columns) == [*chart["bars"][0], *names]
    for name in chart["bars"][0]:
        assert columns[name] == [one[name] for one in chart["bars"]]
    for name in names:
        assert columns[name] == [rows.get(one["time"], {}).get(name) for one in chart["bars"]]

    answer = client.get(f"{CHART}?{query}&format=csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(answer.text)))
    assert [name for name in read[0] if name != "time_iso"] == list(columns)
    for name, values in columns.items():
        assert [row[name] for row in read] == [_text(value) for value in values]
    if query != "timeframe=5m":
        assert read[-1]["time_iso"] == "2023-11-15T00:39:00Z"


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_a_csv_is_a_file_with_a_name(client: FlaskClient) -> None:
    for address, name in (
        (f"{CHART}?format=csv", "binance_BTC-USDT_1m.csv"),
        ("/api/charts/thyao.is?format=csv&timeframe=5m", "yahoo_THYAO.IS_5m.csv"),
    ):
        disposition = client.get(address).headers["Content-Disposition"]
        assert disposition == f'attachment; filename="{name}"'


def test_an_empty_series_has_its_header(client: FlaskClient) -> None:
    answer = client.get("/api/charts/ETH-USDT?format=csv&indicators=vwap")
    assert answer.text == (
        "time,time_iso,open,high,low,close,volume,quote_volume,trade_count,state,completed,revision,origin,vwap\r\n"
    )
    columns = client.get("/api/charts/ETH-USDT?format=columns&indicators=vwap").get_json()
    assert columns["time"] == columns["vwap"] == []


def test_a_delayed_source_says_so_in_every_format(client: FlaskClient) -> None:
    assert set(client.get("/api/charts/THYAO.IS?format=columns").get_json()["delayed"]) == {True}
    assert ",origin,delayed" in client.get("/api/charts/THYAO.IS?format=csv").text.split("\r\n")[0]


def test_columns_without_a_value_are_told_apart(client: FlaskClient) -> None:
    answers = [
        client.get(f"/api/charts/THYAO.IS?format=columns&indicators={name}", headers={"Accept-Encoding": "gzip"})
        for name in ("sma_20", "rsi_14")
    ]
    assert len({answer.headers["ETag"] for answer in answers}) == 2
    for answer, name in zip(answers, ("sma_20", "rsi_14"), strict=True):
        assert answer.headers["Content-Encoding"] == "gzip"
        assert set(orjson.loads(gzip.decompress(answer.data))[name]) == {None}


def test_an_unknown_format_is_refused(client: FlaskClient) -> None:
    answer = client.get(f"{CHART}?format=xml")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith("format: ")


@pytest.mark.parametrize(
    "address",
    [CHART, f"{CHART}?limit=7", f"{CHART}?format=csv", f"{CHART}?format=columns", f"{CHART}?indicators=none",
     "/api/symbols", "/api/overview", "/api/openapi.json"],
)  # fmt: skip
def test_what_has_not_changed_is_not_sent_again(client: FlaskClient, address: str) -> None:
    client.get(address)  # the first one of a chart is read from the database, the next from the cache
    first = client.get(address)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(address, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert client.get(address, headers={"If-None-Match": '"other"'}).data == first.data


def test_the_tag_is_another_one_for_every_change(
    client: FlaskClient, engine: sa.Engine, redis_client: redis.Redis
) -> None:
    with engine.connect() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
    seen: dict[str, bytes] = {}

    def look(query: str = "") -> None:
        answer = client.get(f"{CHART}?{query}")
        tag = answer.headers["ETag"]
        assert seen.setdefault(tag, answer.data) == answer.data, "one tag, two answers"

    look()
    look()  # from the cache: the same
    assert len(seen) == 1
    for query in (
        "format=csv",
        "format=columns",
        "indicators=none",
        "indicators=rsi_14",
        "indicators=sma_20",
        "limit=3",
    ):
        look(query)
    assert len(seen) == 7
    store(engine, [bar(btc.id, NOW_MS - 60_000, price=105, state=State.OPEN)])
    cache.touch(redis_client, [btc])
    look()
    assert len(seen) == 8
    store(engine, [bar(btc.id, NOW_MS + i * 60_000, price=105, state=State.OPEN) for i in range(BARS)])
    cache.touch(redis_client, [btc])
    look()
    assert len(seen) == 9
    with engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM holes"))
    cache.touch(redis_client, [btc])
    look()
    assert len(seen) == 10, "what stands before the bars counts too"


UNDO = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstd.decompress}


@pytest.mark.parametrize("encoding", UNDO)
def test_big_answers_are_compressed_for_those_who_take_it(client: FlaskClient, encoding: str) -> None:
    for address in (CHART, f"{CHART}?format=csv", "/api/overview", "/api/openapi.json"):
        plain = client.get(address)
        assert "Content-Encoding" not in plain.headers
        for _ in range(2):  # the second from what is kept
            small = client.get(address, headers={"Accept-Encoding": encoding})
            assert small.headers["Content-Encoding"] == encoding, address
            assert "Accept-Encoding" in small.headers["Vary"]
            assert UNDO[encoding](small.data) == plain.data
            assert len(small.data) < len(plain.data) / 2
            assert small.headers["ETag"] == plain.headers["ETag"]
        tag = {"If-None-Match": plain.headers["ETag"], "Accept-Encoding": encoding}
        assert client.get(address, headers=tag).status_code == 304


def test_small_answers_are_left_as_they_are(client: FlaskClient) -> None:
    for address in ("/api/health/live", "/api/charts/ETH-USDT", "/api/charts/NOPE-USDT", "/api/holes"):
        assert "Content-Encoding" not in client.get(address, headers={"Accept-Encoding": "gzip, br, zstd"}).headers


def test_what_is_kept_has_a_bound() -> None:
    kept = Kept(most=10)
    for key in ("a", "b", "a", "c"):
        kept.set(key, b"1234")
    assert kept.get("a") is not None
    assert kept.get("b") is None, "the least used one goes first"
    kept.set("d", b"12345678901")
    assert [kept.get(key) for key in "acd"] == [None, None, None]
