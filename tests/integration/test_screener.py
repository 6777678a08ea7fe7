"""The screener and the overview on a real PostgreSQL: every answer against plain Python over the same rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.indicator_names import INDICATORS
from app.domain.instruments import Instrument
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import catalog
from app.storage.tables import CANDLES
from tests.integration.web_data import START_MS, bar, store, store_indicators, utc, wipe
from webapp import create_app
from webapp.screening import ScreenAnswer, ScreenChoices

H1 = Timeframe.H1
NOW_MS = START_MS + 100 * H1.ms + 17 * MINUTE_MS
MANY = 40
Row = dict[str, Any]


@dataclass
class Truth:
    """What was stored, as plain Python: by symbol, what a screen should find."""

    rows: dict[str, Row] = field(default_factory=dict)

    def fit(self, accept: Any) -> set[str]:
        return {symbol for symbol, row in self.rows.items() if accept(row)}


@pytest.fixture(scope="module")
def truth(engine: sa.Engine) -> Truth:
    """Forty instruments with hours, quarter hours and indicators of a seeded walk; some lack one thing or another."""
    wipe(engine)
    chance = random.Random(7)
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE instruments SET active = false"))
        items = [catalog.add(conn, "binance", f"C{number}/USDT", price_decimals=2) for number in range(MANY)]
        catalog.add(conn, "alpaca", "SILENT", price_decimals=2)
    found = Truth()
    for number, item in enumerate(items):
        found.rows[item.symbol] = _fill(engine, item, number, chance)
    found.rows["SILENT"] = dict.fromkeys(("close", "change_1", "price", "change_24h", *INDICATORS))
    return found


def _put(engine: sa.Engine, bars: list[Bar], tf: Timeframe) -> None:
    """What store() does, in one statement for all of them."""
    names = [name for name in Bar.__slots__ if name != "time_ms"]
    rows = [{name: getattr(each, name) for name in names} | {"time": utc(each.time_ms)} for each in bars]
    with engine.begin() as conn:
        conn.execute(
            sa.insert(CANDLES[tf]).values(
                [{**row, "state": int(row["state"]), "origin": int(row["origin"])} for row in rows]
            )
        )


def _fill(engine: sa.Engine, item: Instrument, number: int, chance: random.Random) -> Row:
    price = chance.uniform(10, 1000)
    newest = H1.floor(NOW_MS) - H1.ms
    hours, closes = [], []
    for step in range(4):
        price = round(price * chance.uniform(0.97, 1.03), 2)
        closes.append(price)
        hours.append(bar(item.id, newest - (3 - step) * H1.ms, minutes=60, close=price, volume=chance.randint(1, 900)))
    going = bar(item.id, newest + H1.ms, minutes=60, close=1.0, state=State.OPEN)  # the hour that goes on: never judged
    _put(engine, [*hours, going], H1)
    values = {name: None if chance.random() < 0.2 else round(chance.uniform(1, 1000), 4) for name in INDICATORS}
    values["rsi_14"] = round(chance.uniform(5, 95), 4)
    late = number % 10 == 3  # its newest hour's indicators are still being computed
    judged = 2 if late else 3
    store_indicators(engine, item.id, {hours[judged].time_ms: values, going.time_ms: {"rsi_14": 1.0}}, tf=H1)
    quarter = Timeframe.M15
    since = quarter.floor(NOW_MS) - DAY_MS
    quarters = []
    for step in range(-1, 96):
        price = round(price * chance.uniform(0.99, 1.01), 2)
        quarters.append(bar(item.id, since + step * quarter.ms, minutes=15, close=price))
    live = bar(item.id, quarter.floor(NOW_MS) + MINUTE_MS, close=round(price * 1.01, 2), state=State.OPEN)
    _put(engine, quarters, quarter)
    _put(engine, [live], Timeframe.M1)
    return {
        **values,
        "close": closes[judged],
        "volume": float(hours[judged].volume),
        "change_1": round((closes[judged] / closes[judged - 1] - 1) * 100, 4),
        "price": live.close,
        "change_24h": round((live.close / quarters[0].close - 1) * 100, 4),
        "volume_24h": float(sum(each.volume for each in (*quarters[1:], live))),
        "time": hours[judged].time_ms,
    }


@pytest.fixture
def client(settings: Settings, truth: Truth, redis_client: redis.Redis) -> Iterator[FlaskClient]:
    app = create_app(settings)
    web = app.extensions["web"]
    web.overview._now_ms = lambda: NOW_MS
    web.screener.now_ms = lambda: NOW_MS
    yield app.test_client()
    web.engine.dispose()
    web.redis.close()


def ask(client: FlaskClient, *, status: int = 200, **query: Any) -> Row:
    answer = client.get("/api/screener", query_string=query)
    assert answer.status_code == status, answer.text
    body: Row = answer.get_json()
    if status == 200:
        ScreenAnswer.model_validate(body)
    return body


def symbols(body: Row) -> list[str]:
    return [row["symbol"] for row in body["instruments"]]


def _all(row: Row, *names: str) -> bool:
    return all(row.get(name) is not None for name in names)


@pytest.mark.parametrize(
    ("where", "accept"),
    [
        ("rsi_14<30", lambda row: _all(row, "rsi_14") and row["rsi_14"] < 30),
        ("close>sma_200", lambda row: _all(row, "close", "sma_200") and row["close"] > row["sma_200"]),
        ("sma_50>sma_200", lambda row: _all(row, "sma_50", "sma_200") and row["sma_50"] > row["sma_200"]),
        ("volume>0.5*volume_sma", lambda row: _all(row, "volume_sma") and row["volume"] > 0.5 * row["volume_sma"]),
        ("change_24h>0,change_1<0", lambda row: _all(row, "change_1") and row["change_24h"] > 0 > row["change_1"]),
        ("close/vwap<1.5,macd!=0", lambda row: _all(row, "vwap", "macd") and row["close"] / row["vwap"] < 1.5),
    ],
)  # fmt: skip
def test_who_fits_is_who_plain_python_finds(client: FlaskClient, truth: Truth, where: str, accept: Any) -> None:
    expected = truth.fit(accept)
    assert 0 < len(expected) < MANY  # else the case tells nothing
    body = ask(client, timeframe="1h", where=where, limit=1000)
    assert set(symbols(body)) == expected
    assert body["total"] == len(expected)
    assert body["of"] == MANY + 1
    assert ",".join(body["where"]) == where


def test_every_value_is_that_of_the_stored_rows(client: FlaskClient, truth: Truth) -> None:
    names = ["price", "change_24h", "volume_24h", "close", "change_1", "volume", *INDICATORS]
    body = ask(client, fields=",".join(names), limit=1000)
    assert body["fields"] == names
    assert len(body["instruments"]) == MANY + 1
    for row in body["instruments"]:
        expected = truth.rows[row["symbol"]]
        assert row["time"] == expected.get("time"), row["symbol"]
        for name in names:
            value, told = expected.get(name), row["values"][name]
            assert (told is None) == (value is None), (row["symbol"], name)
            assert told is None or math.isclose(told, value, rel_tol=1e-9), (row["symbol"], name)


def test_rows_stand_in_the_order_asked_for_and_nulls_last(client: FlaskClient, truth: Truth) -> None:
    for sort, sign in (("change_24h", 1), ("-change_24h", -1)):
        body = ask(client, sort=sort, limit=1000)
        known = sorted(
            (row for row in truth.rows.items() if row[0] != "SILENT"), key=lambda r: sign * r[1]["change_24h"]
        )
        assert symbols(body) == [*(symbol for symbol, _ in known), "SILENT"]
    body = ask(client, where="sma_20>0", sort="-close/sma_20", limit=5)
    ratios = sorted(
        (row["close"] / row["sma_20"] for row in truth.rows.values() if _all(row, "close", "sma_20")), reverse=True
    )
    assert [row["values"]["close/sma_20"] for row in body["instruments"]] == pytest.approx(ratios[:5])
    assert body["total"] == len(ratios)


def test_one_exchange_can_be_asked_for(client: FlaskClient) -> None:
    body = ask(client, exchange="alpaca")
    assert symbols(body) == ["SILENT"]
    assert body["of"] == 1
    (row,) = body["instruments"]
    assert row["time"] is None
    assert set(row["values"].values()) == {None}
    assert row["market"]["calendar"] == "XNYS"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"where": "rsi14<30"}, "where: 'rsi14<30': there is no field 'rsi14'; 'rsi_14' is near it"),
        ({"where": "close>sma_20 OR 1=1"}, "where: 'close>sma_20 OR 1=1' compares more than once"),
        ({"sort": "-nothing"}, "sort: 'nothing': there is no field 'nothing'"),
        ({"sort": "5"}, "sort: '5' names no field"),
        ({"fields": "close,(1)"}, "fields: '(1)': '(1)' is neither a field nor a number"),
        ({"timeframe": "2h"}, "timeframe: "),
        ({"exchange": "kraken"}, "exchange: "),
        ({"limit": "0"}, "limit: "),
        ({"were": "close>1"}, "were: unknown parameter"),
    ],
)
def test_what_cannot_be_read_is_named(client: FlaskClient, query: Row, words: str) -> None:
    error = ask(client, status=400, **query)["error"]
    assert error["code"] == "bad_parameter"
    assert error["message"].startswith(words)


def test_many_clients_cost_one_look_a_second(client: FlaskClient) -> None:
    web = client.application.extensions["web"]
    now, looks = [1000.0], []
    web.screener.monotonic = lambda: now[0]
    newest = web.screener.store.newest

    class Counting:
        @staticmethod
        def newest(conn: sa.Connection, ids: list[int], tf: Timeframe, *, lo_ms: int, hi_ms: int) -> Any:
            looks.append(len(ids))
            return newest(conn, ids, tf, lo_ms=lo_ms, hi_ms=hi_ms)

    web.screener.store = Counting
    for where in ("rsi_14<30", "rsi_14>70", "close>sma_200"):
        ask(client, where=where)
    assert looks == [MANY + 1, 1]  # all, and once more for the one without a bar, further back
    now[0] += 1.1
    ask(client)
    assert looks == [MANY + 1, 1, MANY + 1]  # further back nothing is looked for again before a minute is over
    now[0] += 61
    ask(client)
    assert looks[3:] == [MANY + 1, 1]


def test_a_look_that_takes_long_serves_those_who_waited_for_it(client: FlaskClient) -> None:
    screener = client.application.extensions["web"].screener
    now, looks, newest = [5000.0], [], screener.store.newest

    class Slow:
        @staticmethod
        def newest(conn: sa.Connection, ids: list[int], tf: Timeframe, *, lo_ms: int, hi_ms: int) -> Any:
            looks.append(len(ids))
            now[0] += 3
            return newest(conn, ids, tf, lo_ms=lo_ms, hi_ms=hi_ms)

    screener.monotonic, screener.store = lambda: now[0], Slow
    ask(client)
    first = len(looks)
    ask(client)
    assert len(looks) == first


def test_a_bar_from_weeks_ago_is_still_found(client: FlaskClient, engine: sa.Engine) -> None:
    with engine.connect() as conn:
        silent = catalog.find(conn, "SILENT", "alpaca")
    old = H1.floor(NOW_MS) - 30 * DAY_MS
    store(engine, [bar(silent.id, old, minutes=60, close=42.0)], tf=H1)
    try:
        (row,) = ask(client, where="close=42")["instruments"]
        assert (row["symbol"], row["time"]) == ("SILENT", old)
    finally:
        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM candles_1h WHERE instrument_id = :id"), {"id": silent.id})


def test_a_silent_instrument_shows_its_last_price(client: FlaskClient, engine: sa.Engine) -> None:
    with engine.connect() as conn:
        silent = catalog.find(conn, "SILENT", "alpaca")
    old = NOW_MS - NOW_MS % MINUTE_MS - 40 * DAY_MS
    store(engine, [bar(silent.id, old, close=42.0)])
    try:
        rows = client.get("/api/overview").get_json()["instruments"]
        row = next(row for row in rows if row["symbol"] == "SILENT")
        assert (row["price"], row["change_24h"], row["sparkline"]) == (42.0, None, [])
        assert row["time"] == old + MINUTE_MS - 1000
    finally:
        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM candles_1m WHERE instrument_id = :id"), {"id": silent.id})


def test_fields_and_presets_are_told(client: FlaskClient) -> None:
    body = client.get("/api/screener/fields").get_json()
    ScreenChoices.model_validate(body)
    assert {field["name"] for field in body["fields"]} > {"close", "price", "change_24h", *INDICATORS}
    for preset in body["presets"]:
        ask(client, where=preset["where"], sort=preset["sort"])


def test_the_page_knows_what_can_be_chosen(client: FlaskClient) -> None:
    answer = client.get("/screener")
    assert answer.status_code == 200
    assert "RSI below 30" in answer.text
