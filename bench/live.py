"""From a trade to a WebSocket: `python bench/live.py [--rounds N] [--trades N]`.

Subject: a batch of one trade, as the streamer makes it, into the queue, through Celery, the ledger and the bar, to a
client of /ws/<symbol>. The floor: the same batch into a list of the same Redis; a process of its own that waits there
(BLPOP) decodes it, adds the trade to a bar it keeps in memory, and publishes the same message to the same web process:
streamer, Redis, WebSocket, without Celery and PostgreSQL, and so without a promise. Both begin before the batch is made
and end when the client has parsed the update. Both without the streamer's window (FLUSH_INTERVAL_MS, 100) and the web's
(WS_COALESCE_MS, 100), which come on top: at most 200 ms, half of that on average. The goal: 5 times the floor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import redis
from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cache import keys
from app.cache.pubsub import publish
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import ROOT, load_settings
from app.domain.bars import Bar, partial_bars
from app.domain.instruments import Exchange, Instrument
from app.domain.rollup import combine
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.services.updates import message
from app.storage import catalog
from bench.database import arguments, stores
from bench.judged import Goal, judge
from tests.integration.web_server import web_server
from tests.processes import processes

E8 = 10**8
SUBJECT, FLOOR = "through Celery and PostgreSQL", "streamer, Redis, WebSocket"
LIST = "bench_batches"


def relay(redis_url: str) -> None:
    """The floor's process: batches in, messages out; it ends with an empty batch."""
    wire = redis.Redis.from_url(redis_url)
    stored: dict[int, Bar] = {}
    while data := wire.blpop([LIST])[1]:  # type: ignore[index]
        for part in partial_bars(TradeBatch.decode(data)):
            known, new = stored.get(part.time_ms), Bar(**part._asdict())
            stored[part.time_ms] = bar = new if known is None else combine([known, new], new.time_ms)
            eth = Instrument(
                bar.instrument_id, Exchange.BINANCE, "ETH/USDT", "ETHUSDT", "crypto", "USDT", "24/7", True, 2
            )  # fmt: skip
            publish(wire, keys.CHART_UPDATES, message(eth, {Timeframe.M1: [bar]}, {}, reload=False))


def heard(connection: ClientConnection, trades: int) -> None:
    """Waits until the live bar has so many trades."""
    while True:
        message = json.loads(connection.recv(timeout=20))
        if message["type"] == "update" and message["data"]["bar"]["trade_count"] >= trades:
            return


def timed(say: Callable[[int], object], connection: ClientConnection, number: int) -> float:
    """Seconds from saying the trade to hearing of it."""
    began = time.perf_counter()
    say(number)
    heard(connection, number)
    return time.perf_counter() - began


def main() -> int:
    """Alternates trade by trade; a round is the median of its trades."""
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--trades", type=int, default=60, help="of each round and way (60)")
    parser.add_argument("--relay", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.relay:
        relay(given.relay)
        return 0
    with ExitStack() as stack:
        folder, wire, engine = stack.enter_context(stores("live", given.url))
        with engine.connect() as found:
            btc, eth = (catalog.find(found, symbol, "binance").id for symbol in ("BTC/USDT", "ETH/USDT"))
        settings = load_settings(
            database_url=engine.url.render_as_string(hide_password=False), redis_url=wire.url, data_dir=folder,
            log_dir=folder / "logs", market="live", rate_limit_reads="off", _env_file=None,
        )  # fmt: skip
        run = stack.enter_context(processes(settings))
        run.worker("trades")
        address = stack.enter_context(web_server(settings, MARKET="live", WS_COALESCE_MS=0))
        minute_us = time.time_ns() // 60_000_000_000 * 60_000_000
        queue, client = TradeQueue(make_publisher(settings)), redis.Redis.from_url(wire.url)

        def batch(instrument_id: int, number: int) -> TradeBatch:
            one = Trade(instrument_id, minute_us + number, number, number, 60_000 * E8 + number * E8, E8, True)
            subscribed = ((instrument_id, minute_us),) if number == 1 else None
            mark = Mark(7, number, minute_us + number, "binance", since_us=minute_us, subscribed=subscribed)
            return TradeBatch.of([one], mark=mark)

        def trade(number: int) -> None:
            queue.send(batch(btc, number), 0)

        def floor(number: int) -> None:
            client.rpush(LIST, batch(eth, number).encode())

        relaying = subprocess.Popen([sys.executable, __file__, "--relay", wire.url], cwd=ROOT)
        stack.callback(relaying.wait, 10)
        stack.callback(client.rpush, LIST, b"")
        sockets = [
            stack.enter_context(connect(f"ws://{address}/ws/{symbol}?indicators=none", max_size=2**24))
            for symbol in ("BTC-USDT", "ETH-USDT")
        ]
        time.sleep(2)
        ways = {SUBJECT: partial(timed, trade, sockets[0]), FLOOR: partial(timed, floor, sockets[1])}
        numbers = count(1)
        for _ in range(20):  # the worker's first tasks open its connections
            number = next(numbers)
            for way in ways.values():
                way(number)

        def measure() -> dict[str, list[float]]:
            medians: dict[str, list[float]] = {name: [] for name in ways}
            every: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(given.rounds):
                took: dict[str, list[float]] = {name: [] for name in ways}
                for number in (next(numbers) for _ in range(given.trades)):
                    for name, way in ways.items():
                        took[name].append(way(number))
                for name, found in took.items():
                    medians[name].append(median(found))
                    every[name] += found
            for name, found in every.items():
                print(f"  {name}: p50 {median(found) * 1000:.1f} ms, p99 {quantiles(found, n=100)[98] * 1000:.1f} ms")
            return medians

        met = judge(f"{given.trades} trades a round", measure, [Goal(SUBJECT, FLOOR, 5, most=True)])
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
