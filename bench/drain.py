"""Draining a filled queue: `python bench/drain.py [--rounds N] [--batches N]`.

Batches of 1,000 trades over 50 symbols wait in the queues; measured is from the first worker's word that it is ready to
the last batch committed. One worker on one queue against two on the same queue, and against two with a queue each
(TRADE_SHARDS=2). The goal: two are at least 1.15 times as fast as one, with PostgreSQL on the same cores.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import redis
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import Settings, load_settings
from app.domain.trades import Mark, Trade, TradeBatch
from bench.database import arguments, stores
from bench.judged import Goal, in_turn, judge
from tests.processes import Processes

E8 = 10**8
SYMBOLS, TRADES = 50, 1000
MINUTE_US = 60_000_000
ONE, SAME, SHARDED = "1 worker", "2 workers, the same queue", "2 workers, a queue each"


def instruments(engine: sa.Engine) -> list[int]:
    """Fifty active instruments."""
    with engine.begin() as connection:
        connection.execute(sa.text(
            "INSERT INTO instruments (exchange, symbol, wire_symbol, asset_class, currency, calendar, "
            "price_decimals) "
            "SELECT 'binance', 'S' || n || '/USDT', 'S' || n || 'USDT', 'crypto', 'USDT', '24/7', 8 "
            "FROM generate_series(1, 50) n ON CONFLICT DO NOTHING"
        ))  # fmt: skip
        found = connection.execute(sa.text("SELECT id FROM instruments WHERE exchange = 'binance' ORDER BY id DESC"))
        return sorted(found.scalars().all()[:SYMBOLS])


def fill(queue: TradeQueue, ids: list[int], *, batches: int, shards: int, run: int) -> int:
    """Hands over the trades of so many batches, each shard its symbols; returns how many messages that made.

    As of a busy market: each batch has trades of every symbol, 100 ms of exchange time further on.
    """
    start_us = 1_700_000_000_000_000 // MINUTE_US * MINUTE_US + run * 3_600_000_000
    each, messages = TRADES // len(ids), 0
    for n in range(batches):
        for shard in range(shards):
            mine = [i for i in ids if i % shards == shard]
            trades = [
                Trade(i, start_us + n * 100_000 + k, number, number, 100 * E8 + number % 997 * 10**6, E8, k % 2 == 0)
                for i in mine
                for k in range(each)
                for number in [run * 10**8 + n * each + k + 1]
            ]
            messages += 1
            mark = Mark(run * 100 + shard + 1, n + 1, start_us + n * 100_000, "binance", shard=f"{shard}/{shards}")
            queue.send(TradeBatch.of(trades, mark=mark), shard)
    return messages


def drain(settings: Settings, engine: sa.Engine, *, run: int, shards: int, queues: list[str], batches: int) -> float:
    """Seconds in which workers of these queues, one each, commit everything."""
    ids = instruments(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE ledger, feeds, feed_batches, candles_1m, touched, holes"))
    messages = fill(TradeQueue(make_publisher(settings)), ids, batches=batches, shards=shards, run=run)
    workers = Processes(settings, TRADE_SHARDS=shards)
    names = [f"{name}-{place}" for place, name in enumerate(queues)]
    # They start with nothing to do, so that neither has a head start.
    client = redis.Redis.from_url(settings.redis_url)
    held = [f"trades.{shard}" for shard in range(shards)]
    for name in held:
        client.rename(name, f"held.{name}")
    try:
        for node, name in zip(names, queues, strict=True):
            workers.environment["READY_FILE"] = str(settings.data_dir / f"{node}.{run}.ready")
            workers.start(
                node, "-m", "celery", "-A", "celery_config", "worker", "-Q", name, "-c", "1", "-n", f"{node}@%h",
                "--without-gossip", "--without-mingle", "-l", "ERROR",
            )  # fmt: skip
        while not all((settings.data_dir / f"{node}.{run}.ready").exists() for node in names):
            time.sleep(0.05)
        time.sleep(1.0)
        began = time.perf_counter()
        for name in held:
            client.rename(f"held.{name}", name)
        deadline = time.monotonic() + 300
        with engine.connect() as connection:
            done = 0
            while done < messages:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{done} of {messages} after 300 s:\n{workers.said()}")
                time.sleep(0.05)
                done = connection.execute(sa.text("SELECT coalesce(sum(1), 0) FROM feed_batches")).scalar_one()
                connection.rollback()
        took = time.perf_counter() - began
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT sum(trade_count), sum(volume) FROM candles_1m")).one()
        wanted = batches * (TRADES // len(ids)) * len(ids)
        if (int(found[0]), float(found[1])) != (wanted, float(wanted)):
            raise SystemExit(f"{found} trades and volume, not {wanted} of each: the end result is wrong")
    finally:
        workers.stop()
        client.close()
    return took


def main() -> int:
    """Measures; 1 where the goal was missed twice."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--batches", type=int, default=400, help="of 1,000 trades over 50 symbols (400)")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder, wire, engine = stack.enter_context(stores("drain", given.url))
        settings = load_settings(
            database_url=engine.url.render_as_string(hide_password=False), redis_url=wire.url, data_dir=folder,
            log_dir=folder / "logs", market="live", start_backfill_hours=0, _env_file=None,
        )  # fmt: skip
        runs = iter(range(1, 1000))

        def measure() -> dict[str, list[float]]:
            def way(shards: int, queues: list[str]) -> float:
                return drain(settings, engine, run=next(runs), shards=shards, queues=queues, batches=given.batches)

            return in_turn(
                {
                    ONE: lambda _: way(1, ["trades.0"]),
                    SAME: lambda _: way(1, ["trades.0", "trades.0"]),
                    SHARDED: lambda _: way(2, ["trades.0", "trades.1"]),
                },
                given.rounds,
            )

        title = f"{given.batches} batches of {TRADES:,} trades over {SYMBOLS} symbols"
        met = judge(title, measure, [Goal(SAME, ONE, 1.15), Goal(SHARDED, ONE, 1.15)], rows=given.batches * TRADES)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
