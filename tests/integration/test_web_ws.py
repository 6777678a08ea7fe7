"""Many channels on one socket: /ws of a real gunicorn process, fed through a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from app.cache import keys, pubsub
from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS
from app.storage import catalog
from tests.integration.web_data import START_MS, bar, store, update, wipe
from tests.integration.web_server import web_server

BTC, ETH = "binance:BTC/USDT@1m", "binance:ETH/USDT@1m"
LAST_MS = START_MS + 4 * MINUTE_MS


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    limits = {"WS_CHANNELS": 8, "WS_INITIAL_BARS": 6000, "WS_SOCKETS": 6, "WS_MESSAGE_BYTES": 2048}
    with web_server(settings, WS_MESSAGES_PER_S=50, WS_PING_S=30, **limits) as address:
        yield address


@pytest.fixture(scope="module")
def known(engine: sa.Engine) -> dict[str, Instrument]:
    with engine.connect() as conn:
        return {item.symbol: item for item in catalog.instruments(conn)}


@pytest.fixture(autouse=True)
def bars(engine: sa.Engine, redis_client: redis.Redis, known: dict[str, Instrument]) -> None:
    """Five minutes of two symbols, the last one open."""
    wipe(engine)
    for symbol, price in (("BTC/USDT", 100.0), ("ETH/USDT", 10.0)):
        item = known[symbol]
        minutes = [bar(item.id, START_MS + i * MINUTE_MS, price=price + i) for i in range(4)]
        store(engine, [*minutes, bar(item.id, LAST_MS, price=price, state=State.OPEN)])


class Bot:
    """A client of /ws."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def say(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def wait(self, kind: str, *, timeout_s: float = 30, **fields: Any) -> Any:
        """The next message of this kind with these fields; others are passed over."""
        end, seen = time.monotonic() + timeout_s, []
        while (left := end - time.monotonic()) > 0:
            try:
                message = json.loads(self.connection.recv(timeout=left))
            except TimeoutError:
                break
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message
            seen.append(str(message)[:150])
        raise AssertionError(f"no {kind} {fields}, only {seen}")

    def close(self, channel: str, price: float) -> Any:
        """The next update of the channel whose bar closes at that price: the live bar as it stood may come before."""
        while (data := self.wait("update", channel=channel)["data"])["bar"]["close"] != price:
            pass
        return data

    def quiet(self, seconds: float = 0.6) -> list[Any]:
        """What comes in so many seconds."""
        end, seen = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            try:
                seen.append(json.loads(self.connection.recv(timeout=left)))
            except TimeoutError:
                break
        return seen


@contextmanager
def bot(address: str) -> Iterator[Bot]:
    with connect(f"ws://{address}/ws", open_timeout=30, max_size=2**24) as connection:
        yield Bot(connection)


def publish(client: redis.Redis, item: Instrument, *bars: Bar) -> None:
    message = update(item.symbol, item.id, {"1m": list(bars)})
    pubsub.publish(client, keys.CHART_UPDATES, {**message, "exchange": item.exchange.value})


def grown(item: Instrument, *, price: float, count: int = 9) -> Bar:
    return bar(item.id, LAST_MS, price=price, state=State.OPEN, trade_count=count)


def times(message: Any) -> list[int]:
    return [(row["time"] - START_MS) // MINUTE_MS for row in message["data"]["bars"]]


def test_two_channels_and_the_overview_are_told_apart(
    address: str, redis_client: redis.Redis, known: dict[str, Instrument]
) -> None:
    with bot(address) as client:
        asked = ["binance:btc-usdt@1m", "binance:ETH/USDT@5m", "overview"]
        client.say(action="subscribe", id=7, channels=asked, indicators=["rsi_14"])
        answer = client.wait("subscribed", id=7)
        assert answer["channels"] == [BTC, "binance:ETH/USDT@5m", "overview"]
        first: dict[str, Any] = {}
        while len(first) < 3:
            message = client.wait("initial")
            first[message["channel"]] = message["data"]
        assert [row["time"] for row in first[BTC]["bars"]] == [START_MS + i * MINUTE_MS for i in range(5)]
        assert first["binance:ETH/USDT@5m"]["timeframe"] == "5m"
        assert first["overview"]["instruments"]
        publish(redis_client, known["ETH/USDT"], grown(known["ETH/USDT"], price=12.0))
        assert client.close("binance:ETH/USDT@5m", 13.0)["timeframe"] == "5m"
        publish(redis_client, known["BTC/USDT"], grown(known["BTC/USDT"], price=150.0))
        assert client.close(BTC, 151.0)["symbol"] == "BTC/USDT"
        client.say(action="list", id="l")
        assert client.wait("list", id="l")["channels"] == answer["channels"]


def test_what_is_given_back_says_nothing_more(
    address: str, redis_client: redis.Redis, known: dict[str, Instrument]
) -> None:
    with bot(address) as client:
        client.say(action="subscribe", channels=[BTC, ETH])
        client.wait("initial", channel=BTC)
        client.wait("initial", channel=ETH)
        client.say(action="unsubscribe", id=1, channels=["binance:btc-usdt@1m"])
        assert client.wait("unsubscribed", id=1)["channels"] == [BTC]
        publish(redis_client, known["BTC/USDT"], grown(known["BTC/USDT"], price=160.0))
        publish(redis_client, known["ETH/USDT"], grown(known["ETH/USDT"], price=16.0))
        client.wait("update", channel=ETH)
        assert not [message for message in client.quiet() if message.get("channel") == BTC]
        client.say(action="unsubscribe", id=2, channels=[BTC])
        assert "not subscribed" in client.wait("error", id=2)["data"]["message"]


def test_a_wildcard_has_few_bars_and_follows_the_watchlist(
    address: str, redis_client: redis.Redis, engine: sa.Engine, known: dict[str, Instrument]
) -> None:
    with bot(address) as client:
        client.say(action="subscribe", channels=["binance:*@1m"])
        answer = client.wait("subscribed")
        assert answer["wildcards"] == ["binance:*@1m"]
        assert len(answer["channels"]) == 5
        assert times(client.wait("initial", channel=BTC)) == [3, 4]
        with engine.begin() as conn:
            added = catalog.add(conn, "binance", "NEW/USDT", price_decimals=2)
        store(engine, [bar(added.id, LAST_MS, price=5.0, state=State.OPEN)])
        pubsub.publish(redis_client, keys.WATCHLIST, {})
        assert client.wait("subscribed")["channels"] == ["binance:NEW/USDT@1m"]
        assert times(client.wait("initial", channel="binance:NEW/USDT@1m")) == [4]
        publish(redis_client, added, grown(added, price=6.0))
        assert client.close("binance:NEW/USDT@1m", 7.0)["symbol"] == "NEW/USDT"
        with engine.begin() as conn:
            catalog.set_active(conn, added.id, active=False)
        pubsub.publish(redis_client, keys.WATCHLIST, {})
        left = client.wait("unsubscribed")
        assert (left["channels"], left["by"]) == (["binance:NEW/USDT@1m"], "binance:*@1m")
        client.say(action="unsubscribe", channels=["binance:*@1m"])
        assert len(client.wait("unsubscribed")["channels"]) == 5


def test_initial_since_limit_and_completed(
    address: str, redis_client: redis.Redis, known: dict[str, Instrument]
) -> None:
    with bot(address) as client:
        client.say(action="subscribe", channels=[BTC], since={"binance:btc-usdt@1m": START_MS + 2 * MINUTE_MS})
        assert times(client.wait("initial", channel=BTC)) == [2, 3, 4]
        client.say(action="subscribe", channels=[BTC], limit=1)
        assert times(client.wait("initial", channel=BTC)) == [4]
        client.say(action="subscribe", channels=[ETH], initial=False, completed=True)
        client.wait("subscribed")
        item = known["ETH/USDT"]
        publish(redis_client, item, grown(item, price=20.0))
        publish(redis_client, item, bar(item.id, LAST_MS, price=21.0, trade_count=12))
        said = client.wait("update", channel=ETH)
        assert said["data"]["bar"]["completed"] is True
        pubsub.publish(redis_client, keys.CHART_UPDATES, update(item.symbol, item.id, {}, reload=True))
        client.wait("skipped", channel=ETH)


@pytest.mark.parametrize(
    ("message", "code", "part"),
    [
        ({"action": "subscribe", "channels": ["binance:NOPE/USDT@1m"]}, "unknown_symbol", "NOPE"),
        ({"action": "subscribe", "channels": ["kraken:BTC/USDT@1m"]}, "bad_message", "binance, alpaca, yahoo"),
        ({"action": "subscribe", "channels": ["binance:BTC/USDT@2m"]}, "bad_message", "1m, 5m"),
        ({"action": "subscribe", "channels": ["BTC"]}, "bad_message", "binance:*@1m"),
        ({"action": "subscribe", "channels": []}, "bad_message", "channels: "),
        ({"action": "subscribe", "channels": [BTC], "depth": 5}, "bad_message", "depth: unknown field"),
        ({"action": "subscribe", "channels": [BTC], "indicators": ["rsi"]}, "bad_message", "indicators: "),
        ({"action": "subscribe", "channels": [BTC, ETH], "limit": 5000}, "too_many_bars", "WS_INITIAL_BARS"),
        ({"action": "subscribe", "channels": ["binance:*@1m", "alpaca:*@1m"]}, "too_many_channels", "WS_CHANNELS"),
        ({"action": "sell"}, "bad_message", "subscribe, unsubscribe, list, ping"),
    ],
)
def test_what_is_refused_is_said_and_nothing_of_it_is_carried_out(
    address: str, message: dict[str, Any], code: str, part: str
) -> None:
    with bot(address) as client:
        client.say(id=3, **message)
        said = client.wait("error", id=3)["data"]
        assert said["code"] == code
        assert part in said["message"]
        client.say(action="list")
        assert client.wait("list")["channels"] == []


def test_a_socket_too_many_is_refused_and_a_place_is_free_again(address: str) -> None:
    contexts = [bot(address) for _ in range(6)]
    clients = [context.__enter__() for context in contexts]
    try:
        for client in clients:
            client.say(action="ping", id="here")
            client.wait("pong", id="here")
        with bot(address) as late:
            assert late.wait("error")["data"]["code"] == "too_many_sockets"
            with pytest.raises(ConnectionClosed):
                late.connection.recv(timeout=30)
            assert late.connection.protocol.close_code == 1013
    finally:
        for context in contexts:
            context.__exit__(None, None, None)
    end = time.monotonic() + 60
    while True:
        with bot(address) as client:
            client.say(action="ping")
            if json.loads(client.connection.recv(timeout=30))["type"] == "pong":
                return
        assert time.monotonic() < end
        time.sleep(0.2)


def test_messages_beyond_the_rate_wait_and_none_is_lost(address: str) -> None:
    with bot(address) as client:
        began = time.monotonic()
        for number in range(110):
            client.say(action="ping", id=number)
        assert [client.wait("pong")["id"] for _ in range(110)] == list(range(110))
        assert time.monotonic() - began > 0.8  # 50 at once, then 50 a second
