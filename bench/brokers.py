"""Redis against RabbitMQ as broker: how many batches a second go from enqueue to commit, and how long one takes.

python bench/brokers.py [--batches 400] [--rounds 3]; RabbitMQ must be installed. Both brokers, PostgreSQL and one real
worker of trades run on this machine; the rounds alternate. `drain` fills the queue first; `alone` sends one batch at a
time and waits for its commit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import ROOT, Settings, load_settings
from app.domain.trades import Trade, TradeBatch
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import catalog, migrate
from app.storage.engine import make_engine
from tests.factories import cut
from tests.processes import until
from tests.rabbitmq import rabbitmq

TRADES = 100  # of a batch
BASE_US = 1_749_945_600_000_000  # a midnight


def batches(instrument: int, *, run: int, count: int) -> list[TradeBatch]:
    """Trades of one symbol, 100 ms a batch, a day and its own numbers for each run."""
    first, day_us = run * 1_000_000, BASE_US + run * 86_400_000_000
    trades = [
        Trade(instrument, day_us + n * 1000, first + n, first + n, 10**8 + n % TRADES, 10**6, False)
        for n in range(count * TRADES)
    ]
    return cut(trades, TRADES, run=run)


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """The worker of trades, ready."""
    ready = settings.data_dir / "worker.ready"
    ready.unlink(missing_ok=True)
    environment = {
        **os.environ, "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url,
        "CELERY_BROKER_URL": settings.celery_broker_url, "DATA_DIR": str(settings.data_dir),
        "LOG_DIR": str(settings.log_dir), "READY_FILE": str(ready), "LOG_CONSOLE": "0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    argv = [sys.executable, "-m", "celery", "-A", "celery_config", "worker", "-Q", "trades.0", "-c", "1"]
    argv += ["-n", "bench@%h", "-E", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        until(ready.exists, seconds=90, what="the worker is ready")
        yield
    finally:
        process.terminate()
        process.wait(60)


class Bench:
    """One platform on one broker."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.engine = settings, make_engine(settings, process="bench")
        self.queue = TradeQueue(make_publisher(settings))
        with self.engine.begin() as connection:
            self.instrument = catalog.add(connection, "binance", "XRP/ETH", active=False, price_decimals=8).id

    def applied(self, run: int) -> int:
        """Trades of the run that are committed."""
        lo = (BASE_US + run * 86_400_000_000) / 1e6
        query = (
            "SELECT coalesce(sum(trade_count), 0) FROM candles_1m WHERE instrument_id = :i"
            " AND time >= to_timestamp(:lo) AND time < to_timestamp(:lo) + interval '1 day'"
        )
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.text(query), {"i": self.instrument, "lo": lo}) or 0)

    def round(self, run: int, count: int) -> tuple[float, float, list[float]]:
        """Batches enqueued a second, batches committed a second, and ms from enqueue to commit of single ones."""
        made = batches(self.instrument, run=run, count=count + 30)
        began = time.perf_counter()
        for batch in made[:count]:
            self.queue.send(batch, 0)
        sent_s = time.perf_counter() - began
        until(lambda: self.applied(run) >= count * TRADES, seconds=120, every=0.02, what="the queue is drained")
        drained_s = time.perf_counter() - began
        alone = []
        for n, batch in enumerate(made[count:], count + 1):
            began = time.perf_counter()
            self.queue.send(batch, 0)
            until(lambda n=n: self.applied(run) >= n * TRADES, seconds=30, every=0.001)
            alone.append((time.perf_counter() - began) * 1000)
        return count / sent_s, count / drained_s, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        postgres, wire, broker = PostgresServer(folder / "pg"), RedisServer(folder / "wire"), RedisServer(folder / "b")
        for server in (postgres, wire, broker):
            server.start()
            stack.callback(server.stop)
        migrate.upgrade(postgres.url)
        rabbit = stack.enter_context(rabbitmq(folder / "rabbit"))
        found: dict[str, list[tuple[float, float, list[float]]]] = {"Redis": [], "RabbitMQ": []}
        for run in range(1, asked.rounds + 1):
            for offset, (label, url) in enumerate((("Redis", broker.url), ("RabbitMQ", rabbit.url))):
                settings = load_settings(
                    database_url=postgres.url, redis_url=wire.url, celery_broker_url=url, data_dir=folder / label,
                    log_dir=folder / "logs", _env_file=None,
                )  # fmt: skip
                settings.data_dir.mkdir(exist_ok=True)
                with worker(settings):
                    found[label].append(Bench(settings).round(2 * run + offset, asked.batches))
        print(f"{asked.batches} batches of {TRADES} trades, {asked.rounds} rounds, medians")
        for label, rounds in found.items():
            alone = sorted(ms for each in rounds for ms in each[2])
            sent, drained = (statistics.median(each[i] for each in rounds) for i in (0, 1))
            print(
                f"{label:<9} enqueue {sent:6.0f}/s   enqueue and commit {drained:5.0f}/s   one alone "
                f"p50 {alone[len(alone) // 2]:.1f} ms, p95 {alone[int(len(alone) * 0.95)]:.1f} ms"
            )


if __name__ == "__main__":
    main()
