"""One update to many clients: `python bench/fanout.py [--rounds N] [--clients N] [--updates N]`.

From a message on Redis to the last client's socket. Subjects: /ws/<symbol> and /ws of the web process, with no time of
coalescing. Peer: `websockets` broadcast of the same bytes, hearing of them by Redis too. An update is published once
all clients have the one before. Judged by the processor time of the serving process, which a busy machine leaves alone.
"""

from __future__ import annotations

import asyncio
import base64
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psutil
import redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cache import keys
from app.config import ROOT
from app.domain.timeframes import Timeframe
from app.local.redis import RedisServer
from app.local.servers import free_port
from app.storage import catalog
from bench.database import arguments, database, server
from bench.judged import Goal, in_turn, judge

PEER_CHANNEL = "bench_peer"
TIME_MS = 1_700_006_400_000
SERIES, MANY, PEER = "/ws/<symbol>", "/ws", "websockets broadcast"
SYMBOL, OTHER = "BTC/USDT", "ETH/USDT"


def bar(count: int, **fields: Any) -> dict[str, Any]:
    """The live bar after so many trades, as messages have it."""
    return {
        "time": TIME_MS, "open": 100.0, "high": 102.0, "low": 99.0, "close": 100 + count % 7 / 10, "volume": 1.5,
        "quote_volume": 150.0, "trade_count": count, "state": "open", "completed": False, "revision": 0,
        "origin": "trades", **fields,
    }  # fmt: skip


def peer_message(count: int) -> bytes:
    """What the platform's frame carries, ready made."""
    names = {"symbol": SYMBOL, "exchange": "binance", "timeframe": Timeframe.M1.value}
    data = {**names, "bar": bar(count), "indicators": None}
    return orjson.dumps({"type": "update", "channel": f"binance:{SYMBOL}@1m", "data": data})


def platform_message(symbol: str, instrument_id: int, count: int) -> bytes:
    """The message of the workers."""
    order = [TIME_MS * 1000, 1, (TIME_MS + 1000) * 1000 + count, count]
    series = {"1m": {"bars": [bar(count, order=order)], "indicators": []}}
    head = {"exchange": "binance", "symbol": symbol, "id": instrument_id}
    return orjson.dumps({**head, "series": series, "reload": False})


class Clients:
    """So many WebSocket clients that count the updates they get, and read nothing of them."""

    def __init__(self, port: int, path: str, number: int, *, say: bytes = b"") -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._updates: dict[int, int] = {}
        for _ in range(number):
            opened = self._open(port, path)
            if say:
                opened.sendall(struct.pack("!BB4x", 0x81, 0x80 | len(say)) + say)
            self._sockets[opened.fileno()] = opened
            self._updates[opened.fileno()] = 0
            self._poll.register(opened, select.EPOLLIN)

    def _open(self, port: int, path: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        opened.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += opened.recv(1)
        opened.setblocking(False)
        return opened

    def settle(self, seconds: float = 1.0) -> None:
        """Read until nothing has come for so long."""
        while ready := self._poll.poll(seconds):
            self._read(ready)

    def wait(self, *, timeout_s: float = 20) -> None:
        """Read until everybody has one more update."""
        wanted = dict.fromkeys(self._updates, 0)
        end = time.monotonic() + timeout_s
        while wanted:
            for number in self._read(self._poll.poll(1)):
                wanted.pop(number, None)
            if time.monotonic() > end:
                raise TimeoutError(f"{len(wanted)} clients got no update")

    def _read(self, ready: list[tuple[int, int]]) -> list[int]:
        told = []
        for number, _ in ready:
            data = self._sockets[number].recv(1 << 20)
            if not data:
                raise ConnectionError("a client was closed")
            if b'"update"' in data:
                told.append(number)
        return told

    def close(self) -> None:
        """Leave."""
        for each in self._sockets.values():
            each.close()
        self._poll.close()


async def peer(port: int, redis_url: str) -> None:
    """The peer's process."""
    from redis.asyncio import Redis
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connected: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connected.add(connection)
        await connection.wait_closed()
        connected.discard(connection)

    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None):
        pubsub = Redis.from_url(redis_url).pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(PEER_CHANNEL)
        async for message in pubsub.listen():
            broadcast(connected, message["data"].decode())


@contextmanager
def process(port: int, *command: str, **environment: object) -> Iterator[psutil.Process]:
    """A server's process, once it listens; what serves is the last of its children."""
    values = {name: str(value) for name, value in environment.items()}
    started = subprocess.Popen([sys.executable, *command], cwd=ROOT, env={**os.environ, **values})
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        time.sleep(1)
        own = psutil.Process(started.pid)
        yield (own.children() or [own])[-1]
    finally:
        started.terminate()
        started.wait(15)


def spent(served_by: psutil.Process, clients: Clients, publish: Callable[[int], object], updates: int) -> float:
    """Processor seconds of the serving process for so many updates, each awaited by all clients."""
    before = served_by.cpu_times()
    for number in range(updates):
        publish(number)
        clients.wait()
    after = served_by.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def main() -> int:
    """Measures the three ways in turn."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--clients", type=int, default=500, help="of each way (500)")
    parser.add_argument("--updates", type=int, default=50, help="of each round and way (50)")
    parser.add_argument("--peer", nargs=2, help=argparse_hidden())
    given = parser.parse_args()
    if given.peer:
        asyncio.run(peer(int(given.peer[0]), given.peer[1]))
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-")))
        wire = RedisServer(folder)
        wire.start()
        stack.callback(wire.stop)
        client = redis.Redis.from_url(wire.url)
        engine = stack.enter_context(database(stack.enter_context(server(given.url)), "fanout"))
        with engine.connect() as connection:
            ids = {symbol: catalog.find(connection, symbol, "binance").id for symbol in (SYMBOL, OTHER)}
        web_port, peer_port = free_port(), free_port()
        values = {
            "DATABASE_URL": engine.url.render_as_string(hide_password=False), "REDIS_URL": wire.url,
            "DATA_DIR": folder, "LOG_DIR": folder / "logs", "WEB_PORT": web_port, "WS_COALESCE_MS": 0, "WS_PING_S": 600,
            "WS_PER_CLIENT": 100_000, "RATE_LIMIT_READS": "off",
        }  # fmt: skip
        gunicorn = ("-m", "gunicorn", "-c", "webapp/gunicorn_conf.py", "webapp:create_app()")
        web = stack.enter_context(process(web_port, *gunicorn, **values))
        other = stack.enter_context(process(peer_port, __file__, "--peer", str(peer_port), wire.url))
        say = orjson.dumps({"action": "subscribe", "channels": [f"binance:{OTHER}@1m"]})
        crowds = {
            SERIES: Clients(web_port, "/ws/BTC-USDT?indicators=none", given.clients),
            MANY: Clients(web_port, "/ws", given.clients, say=say),
            PEER: Clients(peer_port, "/", given.clients),
        }
        for crowd in crowds.values():
            stack.callback(crowd.close)
            crowd.settle()
        count = iter(range(2, 1 << 30))

        def publish(symbol: str, _: int) -> None:
            client.publish(keys.CHART_UPDATES, platform_message(symbol, ids[symbol], next(count)))

        def publish_to_peer(_: int) -> None:
            client.publish(PEER_CHANNEL, peer_message(next(count)))

        ways: dict[str, Callable[[int], float]] = {}
        sends: dict[str, tuple[psutil.Process, Callable[[int], None]]] = {
            SERIES: (web, partial(publish, SYMBOL)),
            MANY: (web, partial(publish, OTHER)),
            PEER: (other, publish_to_peer),
        }
        for name, (served_by, send) in sends.items():
            ways[name] = partial(_round, served_by, crowds[name], send, given.updates)
        return (
            0
            if judge(
                f"{given.updates} updates to {given.clients} clients, processor time",
                lambda: in_turn(ways, given.rounds),
                [Goal(SERIES, PEER, 1.3), Goal(MANY, PEER, 1.3)],
                rows=given.updates * given.clients,
            )
            else 1
        )


def _round(served_by: psutil.Process, crowd: Clients, send: Callable[[int], None], updates: int, _: int) -> float:
    return spent(served_by, crowd, send, updates)


def argparse_hidden() -> str:
    """What keeps an option out of the help: it is for the script's own process."""
    import argparse

    return argparse.SUPPRESS


if __name__ == "__main__":
    sys.exit(main())
