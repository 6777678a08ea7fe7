"""What no client should send: each message is answered, and the connection and the process live on."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from app.config import Settings
from tests.integration.web_server import web_server

NAMES = ("action", "type", "id", "channels", "indicators", "since", "initial", "limit", "completed")
ACTIONS = ("subscribe", "unsubscribe", "list", "ping", "Subscribe", "")
CHANNELS = ("binance:BTC/USDT@1m", "binance:*@5m", "overview", "binance:@1m", ":*@", "a:b@1m", "binance:*\x00@1m")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars | st.sampled_from(ACTIONS + CHANNELS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
messages = st.fixed_dictionaries(
    {"action": st.sampled_from(ACTIONS) | values},
    optional=dict.fromkeys(NAMES[1:], values)
    | {"channels": st.lists(st.sampled_from(CHANNELS) | st.text(max_size=30), max_size=4)},
)
texts = st.text(max_size=200) | st.binary(max_size=200) | values.map(json.dumps) | messages.map(json.dumps)


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    with web_server(settings, WS_MESSAGES_PER_S=2000, WS_MESSAGE_BYTES=4096, WS_PING_S=2) as address:
        yield address


@pytest.fixture(scope="module", params=["/ws", "/ws/BTC-USDT"])
def connection(address: str, request: pytest.FixtureRequest) -> Iterator[ClientConnection]:
    with connect(f"ws://{address}{request.param}", max_size=2**24, open_timeout=60) as connection:
        yield connection


def answers(connection: ClientConnection) -> list[Any]:
    """What comes until the pong of a ping that is sent now."""
    mark = os.urandom(4).hex()
    connection.send(json.dumps({"action": "ping", "id": mark}))
    seen: list[Any] = []
    while True:
        message = json.loads(connection.recv(timeout=60))
        if message == {"type": "pong", "id": mark}:
            return seen
        seen.append(message)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=texts)
def test_any_message_is_answered_and_the_connection_lives(connection: ClientConnection, sent: str | bytes) -> None:
    if isinstance(sent, str):
        try:
            sent.encode()
        except UnicodeEncodeError:
            sent = sent.encode("utf-8", "surrogatepass")
    connection.send(sent)
    said = answers(connection)
    kinds = {"error", "subscribed", "unsubscribed", "list", "pong"}
    told = [message for message in said if message["type"] in kinds and "channel" not in message]
    assert len(told) == 1, (sent, said)
    if told[0]["type"] == "error":
        assert told[0]["data"]["code"] in {"bad_message", "unknown_symbol", "too_many_channels", "too_many_bars"}
        assert told[0]["data"]["message"]


def test_a_message_too_long_closes_with_1009(address: str) -> None:
    for size in (4097, 2_000_000):
        with connect(f"ws://{address}/ws", open_timeout=60) as client:
            with pytest.raises(ConnectionClosed):
                client.send("x" * size)
                client.recv(timeout=60)
            assert client.protocol.close_code == 1009


def test_a_message_in_pieces_counts_as_one(address: str) -> None:
    with connect(f"ws://{address}/ws", open_timeout=60) as client:
        client.send(iter(['{"act', 'ion":"pi', 'ng","id":"', "ü€😀", '"}']))
        assert json.loads(client.recv(timeout=60)) == {"type": "pong", "id": "ü€😀"}
        with pytest.raises(ConnectionClosed):
            client.send("y" * 1000 for _ in range(6))
            client.recv(timeout=60)
        assert client.protocol.close_code == 1009


class Raw:
    """A connection whose frames the test writes itself."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.sock = socket.create_connection((host, int(port)), timeout=60)
        self.sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(1)

    def send(self, first: int, payload: bytes) -> None:
        """A masked frame, its mask zero."""
        assert len(payload) < 126
        self.sock.sendall(struct.pack("!BB4x", first, 0x80 | len(payload)) + payload)

    def rest(self) -> bytes:
        """All that comes until the other side ends it."""
        found = b""
        while data := self.sock.recv(65_536):
            found += data
        return found


@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [
        (0x81, b"\xff\xfe", 1007),  # no UTF-8
        (0x81, b"\xed\xa0\x80", 1007),  # a surrogate
        (0x83, b"", 1002),  # an opcode nobody knows
        (0xF1, b"{}", 1002),  # reserved bits
        (0x80, b"more", 1002),  # goes on with what never began
        (0x09, b"", 1002),  # a ping in pieces
    ],
)
def test_frames_that_break_the_protocol_close_with_its_code(
    address: str, first: int, payload: bytes, code: int
) -> None:
    raw = Raw(address)
    raw.send(first, payload)
    said = raw.rest()
    assert said[:1] == b"\x88"
    assert struct.unpack("!H", said[2:4])[0] == code
    raw.sock.close()


def test_a_flood_of_pings_keeps_nobody_else_waiting(address: str) -> None:
    raw = Raw(address)
    flood = struct.pack("!BB4x", 0x89, 0x80) * 700
    raw.sock.settimeout(0.05)
    with connect(f"ws://{address}/ws", open_timeout=60) as other:
        sent, waits, end = 0, list[float](), time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                sent += raw.sock.send(flood)
                raw.sock.recv(65_536)
            except TimeoutError:
                pass  # it is not read any faster: that is what shall happen
            began = time.monotonic()
            answers(other)
            waits.append(time.monotonic() - began)
    raw.sock.close()
    assert sent > 0
    assert sorted(waits)[len(waits) // 2] < 1, "the median: the machine may be held up once"


def test_one_that_is_half_open_is_cut_off(address: str) -> None:
    raw = Raw(address)
    began = time.monotonic()
    assert raw.rest().startswith(b"\x89\x00")  # pinged, and never answered
    assert time.monotonic() - began < 50
    raw.sock.close()
