"""What following a batch costs: `python bench/correlation.py [--url postgresql://…]`.

Subject: what a worker does so that a batch of 128 trades of five symbols can be followed: its id in the log's context,
and its trail in Redis, in the round trip that tells charts. Peer: the batch's whole processor time in the worker, of
which it may be 1 %; the wall's time is PostgreSQL's for the most part. Beside it, to look at: the readable summary, and
publishing with and without the event that tells Flower the queue.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loguru import logger

from app.bootstrap import Platform
from app.cache.publisher import RedisPublisher
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import load_settings
from app.domain import summaries
from app.domain.trades import Mark, Trade, TradeBatch
from app.local.redis import RedisServer
from app.logs import setup_logging
from app.services.ingest import Ingest
from app.services.ports import Trail
from bench.database import arguments, database, server

MOST = 0.01
BATCHES, TRADES, SYMBOLS = 300, 128, 5
START_US = 1_795_369_200_000_000
NAMES = {1: "BTC/USDT", 2: "ETH/USDT", 3: "SOL/USDT", 4: "BNB/USDT", 5: "ADA/USDT"}


def batch_at(place: int) -> TradeBatch:
    """Batch number `place`, its ids new, 100 ms of exchange time after the one before."""
    trades = [
        Trade(1 + i % SYMBOLS, START_US + place * 100_000 + i, n, n, 6_500_000_000_000 + i, 100_000_000, i % 2 == 0)
        for i in range(TRADES)
        for n in [place * TRADES + i // SYMBOLS]
    ]
    mark = Mark(7, place + 1, START_US + place * 100_000, "binance")
    return TradeBatch.of(trades, mark=mark, id=summaries.batch_id(7, place + 1), sent_us=START_US)


def main() -> int:
    """Measures; 1 where the goal is missed."""
    options = arguments(__doc__).parse_args()
    with (
        server(options.url) as url,
        database(url, "correlation") as engine,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        Path(folder).chmod(0o755)
        with RedisServer(Path(folder)) as redis:
            target = engine.url.render_as_string(hide_password=False)
            settings = load_settings(
                database_url=target,
                redis_url=redis.url,
                log_dir=Path(folder) / "logs",
                log_console=False,
                _env_file=None,
            )
            setup_logging(settings, process="bench")
            platform = Platform(settings, "bench")
            ingest, places = platform.ingest, count()
            met = _judge(ingest, [batch_at(next(places)) for _ in range(BATCHES)], platform.publisher)
            _look(TradeQueue(make_publisher(settings)))
    return 0 if met else 1


def _judge(ingest: Ingest, batches: list[TradeBatch], publisher: RedisPublisher) -> bool:
    took = []
    for batch in batches:
        began = time.process_time()
        ingest.apply(batch)
        took.append((time.process_time() - began) * 1e6)
    whole, batch = median(took), batches[0]
    facts = {"sent_us": START_US, "last_us": START_US, "trades": 128, "accepted": 128, "known": 0, "refused": 0}

    def context() -> None:
        with logger.contextualize(task="tasks.bars.ingest", task_id="i", batch=batch.id):
            with logger.contextualize(batch=batch.id):
                logger.debug("batch committed", trades=len(batch), accepted=1, known=0, bars=1)

    channel, messages = "chart_updates", [{"id": n, "series": {}} for n in NAMES]
    quotes = {f"binance:{name}": (65_000.0, START_US // 1000) for name in NAMES.values()}

    def trail() -> None:
        told = {**facts, "instruments": [1, 2, 3, 4, 5]}
        publisher.applied(channel, messages, Trail(batch.id, quotes, told, {"trades": 128}))

    def before() -> None:
        publisher.quote(quotes)
        publisher.hint(channel, messages)
        publisher.count("trades", 128)

    spent = {"context, a line not told": _each(context), "messages, prices, trail, counter at once": _each(trail)}
    saved = _each(before)
    print(f"processor time of a batch of {TRADES} trades: {whole:,.0f} µs ({min(took):,.0f} to {max(took):,.0f})")
    for name, us in spent.items():
        print(f"  {name:42} {us:9.1f} µs")
    print(f"  {'without a trail, one by one, as before':42} {-saved:9.1f} µs")
    share = (sum(spent.values()) - saved) / whole
    print(f"  {'met' if share <= MOST else 'MISSED'}: {share:.1%} of the whole, at most {MOST:.0%}")
    return share <= MOST


def _look(queue: TradeQueue) -> None:
    batch = batch_at(0)
    print(f"publishing, to look at\n  {'summary':42} {_each(lambda: summaries.of_trades(batch, NAMES)):9.1f} µs")
    celery = queue._celery
    for told in (True, False, True, False):
        celery.conf.task_send_sent_event = told
        celery.__dict__.pop("amqp", None)  # it keeps what it was made with
        print(f"  {f'published, event of the queue {told}':42} {_each(lambda: queue.send(batch, 0), 200):9.1f} µs")


def _each(call: Callable[[], object], times: int = 1000) -> float:
    """Microseconds of processor time a call, the least of seven rounds: the others had company."""
    rounds = []
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            call()
        rounds.append((time.process_time() - began) / times * 1e6)
    return min(rounds)


if __name__ == "__main__":
    sys.exit(main())
