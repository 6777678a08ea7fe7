"""The database is restarted under full queues: politely, and by SIGKILL; each trade is in its bar exactly once."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from app.cache import health, keys
from app.cache.trade_queue import TradeQueue, make_publisher, queue_name
from app.config import Settings, load_settings
from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import candles, catalog, migrate
from app.storage.engine import make_engine
from tests.integration.web_server import web_server
from tests.processes import Processes, processes, until

T0_MS = 1_570_752_000_000  # 2019-10-11 00:00 UTC
E8 = 10**8
BATCHES, SIZE = 600, 12  # some seconds of work for two workers
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
DOWN_S = 3.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Parts:
    """Servers of the test's own, the workers on them, and what they were given to do."""

    settings: Settings
    postgres: PostgresServer
    redis: redis.Redis
    run: Processes
    instruments: list[Instrument]

    def read(self) -> list[Bar]:
        """Every stored minute of the instruments."""
        engine = make_engine(self.settings, process="test")
        try:
            with engine.begin() as connection:
                ids = [item.id for item in self.instruments]
                end_ms = T0_MS + 86_400_000
                return candles.read_many(connection, ids, Timeframe.M1, start_ms=T0_MS, end_ms=end_ms)
        finally:
            engine.dispose()

    def left(self) -> int:
        """Messages that wait, or that a worker holds."""
        return int(self.redis.llen(queue_name(0))) + int(self.redis.hlen("unacked"))

    def await_left(self, most: int) -> None:
        """Returns once no more than `most` batches are undone."""
        until(lambda: self.left() <= most, seconds=180, every=0.02, what=f"{most} left; {self.run.said()}")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    postgres, broker = PostgresServer(tmp_path / "pg"), RedisServer(tmp_path / "redis")
    try:
        postgres.start()
        broker.start()
        migrate.upgrade(postgres.url)
        settings = load_settings(
            database_url=postgres.url, redis_url=broker.url, data_dir=tmp_path, log_dir=tmp_path / "logs",
            visibility_timeout_s=20, _env_file=None,
        )  # fmt: skip
        engine = make_engine(settings)
        with engine.begin() as connection:
            instruments = [catalog.find(connection, symbol, "binance") for symbol in SYMBOLS]
        engine.dispose()
        client = redis.Redis.from_url(broker.url)
        with processes(settings, START_BACKFILL_HOURS=0) as run:
            yield Parts(settings, postgres, client, run, instruments)
        client.close()
    finally:
        broker.stop()
        postgres.stop()


def trades_of(instruments: list[Instrument]) -> list[Trade]:
    """Seeded trades of the instruments, about ten a second, ids without gaps."""
    draw = random.Random(11)
    seen = {item.id: 0 for item in instruments}
    found = []
    for number in range(BATCHES * SIZE):
        instrument_id = draw.choice(instruments).id
        seen[instrument_id] += 1
        time_us = T0_MS * 1000 + number * 100_000 + draw.randrange(100_000)
        price, size = draw.randrange(1, 10**6) * E8 // 100, draw.randrange(1, 10**9)
        found.append(
            Trade(instrument_id, time_us, seen[instrument_id], seen[instrument_id], price, size, draw.random() < 0.5)
        )
    return found


def queue_all(parts: Parts, trades: list[Trade]) -> None:
    """Every trade in a batch of one run; each tenth batch comes twice, as after a streamer's lost answer."""
    queue = TradeQueue(make_publisher(parts.settings))
    since_us = T0_MS * 1000
    subscribed = tuple((item.id, since_us) for item in parts.instruments)
    pieces = [trades[i : i + SIZE] for i in range(0, len(trades), SIZE)]
    for number, piece in enumerate(pieces, 1):
        mark = Mark(7, number, max(trade.time_us for trade in piece), "binance", kind="live", since_us=since_us)
        batch = TradeBatch.of(piece, mark=replace(mark, subscribed=subscribed if number == 1 else None))
        for _ in range(2 if number % 10 == 0 else 1):
            queue.send(batch, 0)


def expected(trades: list[Trade]) -> dict[tuple[int, int], tuple[object, ...]]:
    """What the trades make of each minute, trade by trade in exact decimals."""
    minutes: dict[tuple[int, int], list[Trade]] = {}
    for trade in trades:
        minutes.setdefault((trade.instrument_id, trade.time_us // 60_000_000 * 60_000), []).append(trade)
    bars = {}
    for key, found in minutes.items():
        found.sort(key=lambda trade: (trade.time_us, trade.first))
        prices = [trade.price_e8 / E8 for trade in found]
        volume = sum((Decimal(trade.size_e8) / E8 for trade in found), Decimal(0))
        bars[key] = (prices[0], max(prices), min(prices), prices[-1], volume, len(found))
    return bars


def stored(bars: list[Bar]) -> dict[tuple[int, int], tuple[object, ...]]:
    return {
        (bar.instrument_id, bar.time_ms): (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)
        for bar in bars
    }


def answer(address: str) -> tuple[int, Any]:
    """Status and JSON of a chart over HTTP."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/charts/BTC-USDT", timeout=20) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def restart(postgres: PostgresServer, address: str) -> None:
    """A fast shutdown, a while of nothing, a start."""
    postgres.stop()
    end = time.monotonic() + DOWN_S
    while time.monotonic() < end:
        status, body = answer(address)
        assert (status, body["error"]["code"]) == (503, "unavailable")
        time.sleep(0.2)
    postgres.start()


def crash(postgres: PostgresServer, address: str) -> None:
    """SIGKILL to the postmaster; the next start recovers, and is waited for."""
    assert postgres.process is not None
    postgres.process.kill()
    postgres.process.wait(60)
    postgres.start()


@pytest.mark.parametrize("end", [restart, crash])
def test_each_trade_is_in_its_bar_once_and_the_web_answers_again(
    parts: Parts, end: Callable[[PostgresServer, str], None]
) -> None:
    trades = trades_of(parts.instruments)
    queue_all(parts, trades)
    undone = parts.left()
    with web_server(parts.settings) as address:
        assert answer(address)[0] == 200
        parts.run.worker("trades", concurrency=2)
        pid = parts.run.running["trades"].pid
        parts.await_left(undone * 4 // 5)
        end(parts.postgres, address)
        assert parts.left() > 0, "it was restarted in the middle"
        parts.await_left(0)
        assert stored(parts.read()) == expected(trades)
        assert answer(address)[0] == 200
    counted = health.counters(parts.redis)
    assert not {"failed_tasks", "parked", "refused_batches", "partial"} & counted.keys(), parts.run.said()
    assert parts.redis.llen(keys.PARKED) == 0
    assert parts.run.running["trades"].pid == pid and parts.run.running["trades"].poll() is None
