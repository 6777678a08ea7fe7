"""The WebSockets of a real gunicorn process, fed through a real Redis."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed

from app.cache import charts, health, keys, pubsub
from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.storage import catalog
from tests.integration.web_data import START_MS, bar, store, update, wipe
from tests.integration.web_server import Listener, listen, web_server

M5 = 5 * MINUTE_MS


@pytest.fixture(scope="module")
def instrument(engine: sa.Engine) -> Instrument:
    with engine.connect() as conn:
        return catalog.find(conn, "BTC/USDT", "binance")


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    with web_server(settings, WS_PING_S=1, WS_QUEUE=20) as address:
        yield address


@pytest.fixture(autouse=True)
def minutes(engine: sa.Engine, redis_client: redis.Redis, instrument: Instrument) -> list[Bar]:
    """Eight minutes from START_MS, the last one open; the first five are rolled up, the sixth is in an open roll-up."""
    wipe(engine)
    bars = [bar(instrument.id, START_MS + i * MINUTE_MS, price=100 + i) for i in range(7)]
    bars.append(bar(instrument.id, START_MS + 7 * MINUTE_MS, price=120, state=State.OPEN))
    store(engine, bars)
    rolled = [bar(instrument.id, START_MS, minutes=5), bar(instrument.id, START_MS + M5, state=State.OPEN)]
    store(engine, rolled, tf=Timeframe.M5)
    return bars


def publish(redis_client: redis.Redis, message: dict[str, Any]) -> None:
    pubsub.publish(redis_client, keys.CHART_UPDATES, message)


def grown(last: Bar, *, price: float, count: int) -> Bar:
    """The same minute after more trades."""
    later = {"close": price, "high": max(last.high, price), "trade_count": count, "close_seq": last.close_seq + count}
    return bar(last.instrument_id, last.time_ms, price=last.open, state=State.OPEN, **later)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC%2FUSDT", "BTC-USDT"])
def test_a_client_gets_the_chart_then_the_feeds_state(address: str, redis_client: redis.Redis, symbol: str) -> None:
    with listen(address, f"/ws/{symbol}?exchange=binance&timeframe=5m") as client:
        chart = client.wait("initial")
        with urllib.request.urlopen(f"http://{address}/api/charts/BTC-USDT?timeframe=5m") as answer:
            assert chart == json.load(answer)
        assert [row["trade_count"] for row in chart["bars"]] == [10, 6]
        assert client.wait("status")["feed"] == "none"


def test_a_trade_moves_the_live_bar_of_every_timeframe(
    address: str, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    with (
        listen(address, "/ws/BTC-USDT?timeframe=1m") as one,
        listen(address, "/ws/BTC-USDT?timeframe=5m") as five,
        listen(address, "/ws/BTC-USDT?timeframe=1d") as day,
        listen(address, "/ws/ETH-USDT?timeframe=1m") as other,
    ):
        for client in (one, five, day, other):
            client.wait("initial")
        newest = grown(minutes[7], price=130.0, count=3)
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [newest]}))
        assert one.bar(newest.time_ms, close=130.0)["indicators"] is None
        data = five.bar(START_MS + M5, close=130.0, high=130.0)
        assert data["timeframe"] == "5m"
        assert data["bar"]["trade_count"] == 2 + 2 + 3
        assert day.bar(START_MS, close=130.0)["bar"]["trade_count"] == 7 * 2 + 3
        with pytest.raises(AssertionError):
            other.bar(newest.time_ms, timeout_s=0.5)


def test_a_roll_up_and_its_minutes_are_counted_once_in_any_order(
    address: str, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    with listen(address, "/ws/BTC-USDT?timeframe=5m") as client:
        client.wait("initial")
        # The roll-up of minutes 5 and 6 arrives; the message of minute 6's closing comes after it.
        rolled = bar(instrument.id, START_MS + M5, minutes=2, state=State.OPEN)
        row = {"time": START_MS + M5, "rsi_14": 61.5}
        publish(redis_client, update("BTC/USDT", instrument.id, {"5m": ([rolled], [row])}))
        while (data := client.bar(START_MS + M5, trade_count=6))["indicators"] is None:
            pass  # the first update after the initial chart is the live bar as it stood
        assert data["indicators"]["rsi_14"] == 61.5
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [minutes[6]]}))
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [grown(minutes[7], price=131.0, count=5)]}))
        assert client.bar(START_MS + M5, close=131.0)["bar"]["trade_count"] == 4 + 5


def test_an_older_form_of_a_minute_does_not_undo_a_newer_one(
    address: str, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    with listen(address, "/ws/BTC-USDT?timeframe=1m") as client:
        client.wait("initial")
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [grown(minutes[7], price=133.0, count=9)]}))
        client.bar(minutes[7].time_ms, close=133.0)
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [grown(minutes[7], price=132.0, count=8)]}))
        with pytest.raises(AssertionError):
            client.bar(minutes[7].time_ms, timeout_s=0.6, close=132.0)


def test_many_updates_become_few_frames(
    address: str, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    with listen(address, "/ws/BTC-USDT?timeframe=1m") as client:
        client.wait("initial")
        began = time.monotonic()
        for count in range(3, 103):
            publish(
                redis_client, update("BTC/USDT", instrument.id, {"1m": [grown(minutes[7], price=140.0, count=count)]})
            )
            time.sleep(0.002)
        seen = 0
        while client.wait("update")["bar"]["trade_count"] < 102:
            seen += 1
        most = 5 + (time.monotonic() - began) / 0.1  # one for each interval of WS_COALESCE_MS
        assert seen <= min(most, 50)


def test_since_fills_the_gap_of_a_reconnect(address: str) -> None:
    with listen(address, f"/ws/BTC-USDT?timeframe=1m&since={START_MS + 5 * MINUTE_MS}&indicators=rsi_14") as client:
        chart = client.wait("initial")
        assert [row["time"] for row in chart["bars"]] == [START_MS + i * MINUTE_MS for i in (5, 6, 7)]


def test_reload_sends_the_chart_anew(
    address: str, redis_client: redis.Redis, engine: sa.Engine, instrument: Instrument
) -> None:
    with listen(address, "/ws/BTC-USDT?timeframe=1m") as client:
        assert len(client.wait("initial")["bars"]) == 8
        store(engine, [bar(instrument.id, START_MS - i * MINUTE_MS) for i in range(1, 11)])
        charts.bump(redis_client, [instrument])
        publish(redis_client, update("BTC/USDT", instrument.id, {}, reload=True))
        assert len(client.wait("initial")["bars"]) == 8 + 10


def test_bad_messages_are_answered_and_the_connection_lives(address: str) -> None:
    with listen(address, "/ws/BTC-USDT") as client:
        client.wait("initial")
        for text in ("{", "7", '{"type":"sell"}', "\x00", '{"type":["ping"]}'):
            client.connection.send(text)
            assert client.wait("error")["code"] == "bad_message"
        client.connection.send('{"type":"ping"}')
        while json.loads(client.connection.recv(timeout=30))["type"] != "pong":
            pass


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/ws/NOPE-USDT", "unknown_symbol"),
        ("/ws/BTC-USDT?timeframe=2m", "bad_parameter"),
        ("/ws/BTC-USDT?exchange=alpaca", "unknown_symbol"),
    ],
)
def test_what_cannot_be_shown_is_said(address: str, path: str, code: str) -> None:
    with listen(address, path) as client:
        assert client.wait("error")["code"] == code
        with pytest.raises(ConnectionClosed):
            client.connection.recv(timeout=30)
        assert client.connection.protocol.close_code == 1008


def test_the_feeds_state_is_sent_when_it_changes(address: str, redis_client: redis.Redis) -> None:
    facts = {"exchange": "binance", "feed": "connected", "since": 1, "at": 2}
    health.beat(redis_client, "streamer-binance", facts)
    with listen(address, "/ws/BTC-USDT") as client:
        client.wait("status", feed="connected", since=1, at=2)
        health.beat(redis_client, "streamer-binance", {**facts, "feed": "reconnecting", "since": 5})
        client.wait("status", feed="reconnecting", since=5)
        redis_client.delete(keys.HEALTH)
        client.wait("status", feed="down")


def test_the_overview_begins_whole_and_then_tells_prices(
    address: str, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    with listen(address, "/ws/overview") as client:
        rows = client.wait("initial")["instruments"]
        assert {row["exchange"] for row in rows} == {"binance", "alpaca", "yahoo"}
        newest = grown(minutes[7], price=144.0, count=3)
        publish(redis_client, update("BTC/USDT", instrument.id, {"1m": [newest]}))
        while (message := json.loads(client.connection.recv(timeout=30)))["type"] != "update":
            pass  # the feeds' state, left changed by the test before
        assert message["data"] == [
            {"exchange": "binance", "symbol": "BTC/USDT", "price": 144.0, "time": newest.close_time // 1000}
        ]
        health.beat(redis_client, "streamer-binance", {"exchange": "binance", "feed": "connected", "since": 8, "at": 9})
        while (states := client.wait("status"))["binance"]["feed"] != "connected":
            pass
        assert (states["binance"]["since"], states["binance"]["at"]) == (8, 9)
        assert states["binance"]["markets"]["24/7"]["state"] == "open"
        assert states["alpaca"]["feed"] == "none"


def test_a_slow_client_is_skipped_then_closed_and_others_are_not_held_up(
    settings: Settings, redis_client: redis.Redis, instrument: Instrument, minutes: list[Bar]
) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with web_server(settings, WS_PING_S=30, WS_QUEUE=4, WS_COALESCE_MS=5) as address:
        host, port = address.split(":")
        slow.connect((host, int(port)))
        with (
            listen(address, "/ws/BTC-USDT?timeframe=1m") as quick,
            listen(address, "/ws/BTC-USDT?timeframe=1m", sock=slow, max_queue=1, ping_interval=None) as client,
        ):
            quick.wait("initial")
            for count in range(10, 100):  # 90 frames of 80 KB: more than kernel and queue hold
                publish(redis_client, update("BTC/USDT", instrument.id, {"1m": padded(minutes[7], count=count)}))
                began = time.monotonic()
                quick.bar(minutes[7].time_ms, trade_count=count)
                assert time.monotonic() - began < 10, "it would be the half minute until the slow one's ping"
            seen = []
            with pytest.raises(ConnectionClosed):
                while True:
                    seen.append(json.loads(client.connection.recv(timeout=30))["type"])
            assert client.connection.protocol.close_code == 1013
            assert seen.count("update") < 85


def padded(last: Bar, *, count: int) -> tuple[list[Bar], list[dict[str, Any]]]:
    """The minute with `count` trades, and indicators as large as no message has them."""
    return [grown(last, price=150.0, count=count)], [
        {"time": last.time_ms, **{f"filler_{i}": i / 7 for i in range(3000)}}
    ]


def test_a_client_that_answers_no_ping_is_cut_off(address: str) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(
            b"GET /ws/BTC-USDT HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        began = time.monotonic()
        while raw.recv(65536):
            assert time.monotonic() - began < 30
        assert time.monotonic() - began < 20


def test_requests_are_answered_while_sockets_are_open(address: str) -> None:
    clients: list[Any] = []
    try:
        for _ in range(30):
            context = listen(address, "/ws/BTC-USDT?timeframe=1m")
            clients.append(context)
            listener: Listener = context.__enter__()
            listener.wait("initial")
        with urllib.request.urlopen(f"http://{address}/api/health", timeout=30) as answer:
            assert json.load(answer)["live"]["clients"] >= 30
    finally:
        for context in clients:
            context.__exit__(None, None, None)
