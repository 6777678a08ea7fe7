"""A real web process that lets nobody read without a token: its sockets, its time limit, and what no HTTP is."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import jwt
import pytest
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.config import Settings
from tests.integration.web_server import Listener, listen, web_server

TOKEN = "a-token-of-these-tests/+ 0123456789"
QUOTED = "a-token-of-these-tests%2F%2B%200123456789"
SECRET = "a secret of these tests that is long enough"
PATH = "/ws/BTC-USDT?timeframe=1m"
LIMIT_S = 2.0
MOST = 3


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    values = {
        "API_TOKEN": TOKEN,
        "JWT_SECRET": SECRET,
        "API_READS_NEED_TOKEN": "1",
        "WS_PER_CLIENT": MOST,
        "REQUEST_TIMEOUT_S": LIMIT_S,
        "CORS_ORIGINS": "https://charts.example.org",
    }
    with web_server(settings, **values) as address:
        yield address


def _get(address: str, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {TOKEN}", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _refused(address: str, path: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as caught, listen(address, path, **options):
        pass
    return caught.value.response.status_code


def _join(address: str, stack: ExitStack) -> Listener:
    return stack.enter_context(listen(address, f"{PATH}&token={QUOTED}"))


def test_a_socket_takes_the_token_in_header_or_address(address: str, settings: Settings) -> None:
    assert _refused(address, PATH) == 401
    assert _refused(address, f"{PATH}&token=wrong-and-secret-0123456789") == 401
    with listen(address, PATH, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        client.wait("initial")
    with listen(address, f"/ws/BTC-USDT?token={QUOTED}&timeframe=1m") as client:
        assert client.wait("initial")["timeframe"] == "1m"
    with listen(address, f"/ws/NOPE?token={QUOTED}&foo=1") as client:
        assert TOKEN not in json.dumps(client.wait("error"))
    logs = "".join(path.read_text() for path in settings.data_dir.rglob("web*.log"))
    assert logs, "something was logged"
    assert TOKEN not in logs
    assert QUOTED not in logs
    assert "wrong-and-secret" not in logs


def test_a_socket_ends_with_its_token(address: str) -> None:
    """By the claim exp, of which 10 s are forgiven to clocks that differ."""
    token = jwt.encode({"exp": int(time.time()) - 4}, SECRET)
    with listen(address, "/ws/overview", additional_headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.wait("error")["code"] == "token_expired"
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                client.connection.recv(timeout=60)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "token_expired")


def test_pages_of_other_origins_do_not_connect(address: str) -> None:
    path = f"{PATH}&token={QUOTED}"
    assert _refused(address, path, origin="https://evil.example.org") == 403
    assert _refused(address, path, origin=f"http://{address}.evil.example.org") == 403
    assert _refused(address, path, origin="null") == 403
    for origin in (f"http://{address}", "https://charts.example.org"):
        with listen(address, path, origin=origin) as client:
            client.wait("initial")


def test_one_address_holds_so_many_sockets(address: str) -> None:
    with ExitStack() as stack:
        clients = [_join_soon(address, stack) for _ in range(MOST)]
        assert _refused(address, f"{PATH}&token={QUOTED}") == 429
        clients[0].connection.close()
        _join_soon(address, stack).wait("initial")


def _join_soon(address: str, stack: ExitStack) -> Listener:
    """Joins as soon as those that just left are forgotten."""
    end = time.monotonic() + 60
    while True:
        try:
            return _join(address, stack)
        except InvalidStatus as refused:
            assert refused.response.status_code == 429
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_request_that_takes_too_long_is_ended(address: str, engine: sa.Engine) -> None:
    with engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        conn.execute(sa.text("LOCK TABLE instruments IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        status, text = _get(address, "/api/symbols")
        assert time.monotonic() - began >= LIMIT_S
        assert status == 503
        assert json.loads(text)["error"]["code"] == "too_slow"
        status, text = _get(address, "/udf/symbols?symbol=BTC-USDT")
        assert (status, json.loads(text)["s"]) == (503, "error")
        assert _get(address, "/charts/binance/BTC-USDT")[0] == 200, "no page asks the database without a token"
    for _ in range(10):  # more than the pool has connections: none of them is spoilt
        assert _get(address, "/api/symbols")[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad\x00Name: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
        (b"GET /?q=" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"H%d: 1\r\n" % i for i in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"POST /api/symbols HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /api/symbols HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n", 413),
        (b"\xff\xfe\x00\x01\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_tells_nothing(address: str, sent: bytes, status: int) -> None:
    answer = _raw(address, sent)
    code = int(answer.split(b" ", 2)[1])
    assert code < 500
    assert status in (0, code), answer[:200]
    assert b"Traceback" not in answer
    assert b'.py"' not in answer
    for header in (b"X-Content-Type-Options: nosniff", b"Content-Security-Policy: default-src 'self'"):
        assert header in answer, "whoever answers"
    assert _get(address, "/static/js/api.js")[0] == 200, "and it lives on"


@pytest.mark.parametrize(
    "path",
    [
        "/api/charts/%00", "/api/charts/BTC-USDT?exchange=%00", "/charts/%00/%00", "/udf/search?query=%00&limit=x",
        "/api/charts/%ff%fe", "/%00", "/api/charts/" + "A" * 3000, "/api/charts/BTC-USDT?since=" + "9" * 3000,
        "/charts/binance/" + "%25" * 500, "/ws/%00", "/static/%00", "/static/../../etc/passwd",
    ],
)  # fmt: skip
def test_hostile_addresses_are_the_askers_mistake(address: str, path: str) -> None:
    status, text = _get(address, path)
    assert 400 <= status < 500, text
    assert "Traceback" not in text


def _raw(address: str, sent: bytes) -> bytes:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := connection.recv(65_536)):
            answer += part
        return answer
