"""Updates to many clients: `python bench/fanout.py [--rounds N] [--clients N …] [--paths series many]`.

From a message on Redis to the clients' sockets. Subjects: /ws/<symbol> and /ws of the web process, with no time of
coalescing (WS_COALESCE_MS=0). Peer: `websockets` broadcast of the same bytes, in a process that hears of them by Redis,
too. Every client gets every update in both: each is another bar, so that none can take the place of another. What is
measured, each way in turn, and the two servers in processes of their own:

- burst: updates published at once, the time until the last client has the last one. The subject writes the updates
  that wait for a client at once; the peer writes each.
- lock-step: each update is published once all clients have the one before; the processor time of the serving process,
  which a busy machine leaves alone. Here nothing waits, and each delivery is a write in both.
- paced: 10,000 deliveries a second (20 updates to 500 clients, 5 to 2,000); the 99th percentile of the time from
  publishing to each client's receipt. The clients are one process, which must get through all sockets as well: part of
  every latency is its own.
- stalled: paced once more, while a client that reads nothing has its buffers full.
- memory: what the web process grew by for each client (RSS).

The clients and the servers share the machine; with two cores, one is left for each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

import orjson
import psutil
import redis
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cache import keys
from app.config import ROOT
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.local.redis import RedisServer
from app.local.servers import free_port
from app.storage import catalog
from bench.crowd import Crowd, more_files, open_socket
from bench.database import arguments, stores
from bench.judged import Goal, in_turn, judge

PEER_CHANNEL = "bench_peer"
TIME_MS = 1_700_006_400_000
SYMBOL, OTHER = "BTC/USDT", "ETH/USDT"
PATHS = {"series": "/ws/<symbol>", "many": "/ws"}
PEER, STALLED = "websockets broadcast", "with a stalled client"
SAY = b'{"action":"subscribe","channels":["binance:%b@1m"]}'
STALL_BYTES, PAD = 10 << 20, 12_000  # more than the kernel holds for a connection, in frames of this size
MINUTES = 60  # of different bars, one after the other: a burst is not longer, so none of its updates is merged
PACE = 10_000  # deliveries a second of the paced rounds
MEMORY_KB = 60


def bar(number: int, *, minutes: int = MINUTES, **fields: Any) -> dict[str, Any]:
    """The bar after so many trades, as messages have it; so many neighbours are bars of different minutes."""
    return {
        "time": TIME_MS + number % minutes * MINUTE_MS, "open": 100.0, "high": 102.0, "low": 99.0,
        "close": 100 + number % 7 / 10, "volume": 1.5, "quote_volume": 150.0, "trade_count": number, "state": "open",
        "completed": False, "revision": 0, "origin": "trades", **fields,
    }  # fmt: skip


def peer_message(number: int) -> bytes:
    """What the platform's frame carries, ready made."""
    names = {"symbol": SYMBOL, "exchange": "binance", "timeframe": Timeframe.M1.value}
    data = {**names, "bar": bar(number), "indicators": None, "batch": None}
    return orjson.dumps({"type": "update", "channel": f"binance:{SYMBOL}@1m", "data": data})


def platform_message(symbol: str, instrument_id: int, *numbers: int, pad: int = 0) -> bytes:
    """The message of the workers; with `pad` each bar has so many bytes of indicators, and a minute of its own."""
    bars, rows = [], []
    for number in numbers:
        made = bar(number, minutes=STALL_BYTES if pad else MINUTES)
        rows += [{"time": made["time"], "pad": "x" * pad}] if pad else []
        began = made["time"] * 1000
        bars.append({**made, "order": [began, 1, began + 1_000_000 + number % 1_000_000, number]})
    head = {"exchange": "binance", "symbol": symbol, "id": instrument_id}
    return orjson.dumps({**head, "series": {"1m": {"bars": bars, "indicators": rows}}, "reload": False})


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
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **values}, stdout=quiet, stderr=quiet
    )
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


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two servers, its clients, and how it is told of updates."""

    served_by: psutil.Process
    crowd: Crowd
    wire: redis.Redis
    channel: str
    make: Callable[[int], bytes]
    numbers: Iterator[int]

    def publish(self, updates: int = 1) -> None:
        """Publish so many updates at once."""
        pipe = self.wire.pipeline(transaction=False)
        for _ in range(updates):
            pipe.publish(self.channel, self.make(next(self.numbers)))
        pipe.execute()

    def burst(self, updates: int, _: int) -> float:
        """Seconds until everybody has a burst of updates."""
        began = time.perf_counter()
        self.publish(updates)
        self.crowd.deliveries(updates)
        return time.perf_counter() - began

    def lock_step(self, updates: int, _: int) -> float:
        """Processor seconds of the server for updates that are each awaited."""
        before = self.served_by.cpu_times()
        for _ in range(updates):
            self.publish()
            self.crowd.deliveries(1)
        after = self.served_by.cpu_times()
        return float(after.user + after.system - before.user - before.system)

    def paced(self, updates: int, every_s: float, _: int) -> float:
        """The 99th percentile of the latencies of all clients, of updates sent at a steady pace."""
        found, sent, began = [], [], time.perf_counter()
        for turn in range(updates):
            sent.append(time.perf_counter())
            self.publish()
            found += self.crowd.latencies(sent, until=began + (turn + 1) * every_s)
        self.crowd.deliveries(len(sent))
        return quantiles(found, n=100)[98]


@contextmanager
def stalled(way: Way, port: int, other_id: int) -> Iterator[None]:
    """A client of the same channel that reads nothing, with more on its way than the kernel holds for it."""
    say = SAY.replace(b'@1m"', b'@1m","binance:' + OTHER.encode() + b'@1m"') % SYMBOL.encode()
    with open_socket(port, "/ws", say=say, receive_bytes=4096):
        time.sleep(0.5)
        for first in range(0, STALL_BYTES // PAD, MINUTES):
            numbers = range(first, first + MINUTES)
            way.wire.publish(way.channel, platform_message(OTHER, other_id, *numbers, pad=PAD))
            way.publish()
            way.crowd.deliveries(1)  # what came before it was written by now, as far as it could be
        yield


def contest(path: str, clients: int, given: argparse.Namespace, wire: RedisServer, engine: sa.Engine) -> bool:
    """One subject and the peer with so many clients each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-")))
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
        address, say = ("/ws/BTC-USDT?indicators=none", b"") if path == "series" else ("/ws", SAY % SYMBOL.encode())
        name, numbers = PATHS[path], count(2)

        def crowd(port: int, number: int, address: str, say: bytes = b"") -> Crowd:
            made = Crowd(port, address, number, say=say)
            stack.callback(made.close)
            made.settle()
            return made

        with open_socket(web_port, address, say=say):
            time.sleep(1)  # the first client has everything loaded that all share
        before = web.memory_info().rss
        ours = crowd(web_port, clients, address, say)
        each_kb = (web.memory_info().rss - before) / clients / 1000
        theirs = crowd(peer_port, clients, "/")
        client = redis.Redis.from_url(wire.url)
        way = Way(web, ours, client, keys.CHART_UPDATES, partial(platform_message, SYMBOL, ids[SYMBOL]), numbers)
        against = Way(other, theirs, client, PEER_CHANNEL, peer_message, numbers)
        gc.collect()
        gc.freeze()
        print(f"\n== {name}, {clients} clients, {each_kb:.1f} kB each", flush=True)
        bursts = {name: partial(way.burst, MINUTES), PEER: partial(against.burst, MINUTES)}
        steps = {name: partial(way.lock_step, given.updates), PEER: partial(against.lock_step, given.updates)}
        met = [
            judge(
                f"{clients} clients of {name}: a burst of {MINUTES} updates",
                lambda: in_turn(bursts, given.rounds),
                [Goal(name, PEER, 1.3)],
                rows=MINUTES * clients,
            ),
            judge(
                f"{clients} clients of {name}: {given.updates} updates in lock-step, processor time (to look at)",
                lambda: in_turn(steps, given.rounds),
                [],
                rows=given.updates * clients,
            ),
        ]
        rate = max(1, PACE // clients)
        updates = max(10, rate)
        paced = {name: partial(way.paced, updates, 1 / rate), PEER: partial(against.paced, updates, 1 / rate)}

        def held_up(turn: int) -> float:
            with stalled(way, web_port, ids[OTHER]):
                return way.paced(updates, 1 / rate, turn)

        met.append(
            judge(
                f"{clients} clients of {name}: {rate} updates a second, p99",
                lambda: in_turn({**paced, STALLED: held_up}, given.rounds),
                [Goal(name, PEER, 0.9, most=True), Goal(STALLED, name, 2, most=True)],
            )
        )
        met.append(each_kb < MEMORY_KB)
        print(f"  {'met' if met[-1] else 'MISSED':6} memory: {each_kb:.1f} kB a client, under {MEMORY_KB}")
    return all(met)


def main() -> int:
    """Measures every path with every number of clients."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[500, 2000], help="of each way (500 2000)")
    parser.add_argument(
        "--paths",
        nargs="+",
        default=list(PATHS),
        choices=PATHS,
        help="which subjects (both; the second with the least number of clients only)",
    )
    parser.add_argument("--updates", type=int, default=20, help="of each round in lock-step (20)")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    more_files()
    if given.peer:
        asyncio.run(peer(int(given.peer[0]), given.peer[1]))
        return 0
    with ExitStack() as stack:
        _, wire, engine = stack.enter_context(stores("fanout", given.url))
        least = min(given.clients)
        contests = [(path, n) for n in given.clients for path in given.paths if n == least or path == given.paths[0]]
        met = [contest(path, n, given, wire, engine) for path, n in contests]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
