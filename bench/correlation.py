"""What following a batch costs: `python bench/correlation.py [--url postgresql://…] [--rounds N]`.

Subject: batches of 128 trades of five symbols applied as the task does, their ids in the log's context, in messages and
in the trail, in processor time of the worker: the wall's is mostly PostgreSQL's, and noise. Peer: the same without any
of it, the counters told one by one as before the trail. Beside it, to look at, in microseconds a batch: the readable
summary, the context, and publishing with and without the event that tells Flower the queue.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

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
from bench.database import arguments, database, server
from bench.judged import Goal, in_turn, judge

FOLLOWED, PLAIN = "followed by their ids", "not followed"
GOALS = (Goal(FOLLOWED, PLAIN, 1.01, most=True),)
BATCHES, TRADES, SYMBOLS = 40, 128, 5
START_US = 1_795_369_200_000_000
NAMES = {1: "BTC/USDT", 2: "ETH/USDT", 3: "SOL/USDT", 4: "BNB/USDT", 5: "ADA/USDT"}


class Plain(RedisPublisher):
    """Counts as before the trail: a round trip each."""

    def applied(self, batch: str, facts: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """No trail."""
        for reason, n in counts.items():
            self.count(reason, n)


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
    """Measures; 1 where the goal is missed twice."""
    options = arguments(__doc__, rounds=9).parse_args()
    with (
        server(options.url) as url,
        database(url, "correlation") as engine,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        Path(folder).chmod(0o755)
        redis = RedisServer(Path(folder))
        redis.start()
        try:
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
            bare = replace(ingest, announcer=replace(ingest.announcer, publisher=Plain(platform.redis)))

            def apply(*, followed: bool) -> float:
                batches = [batch_at(next(places)) for _ in range(BATCHES)]
                began = time.process_time()
                for batch in batches:
                    told = batch if followed else replace(batch, id="")
                    with logger.contextualize(task="t", task_id="i") if followed else nullcontext():
                        with logger.contextualize(batch=batch.id) if followed else nullcontext():
                            (ingest if followed else bare).apply(told)
                            if followed:
                                logger.debug("batch committed", trades=len(batch), accepted=1, known=0, bars=1)
                return time.process_time() - began

            ways: dict[str, Callable[[int], float | None]] = {
                FOLLOWED: lambda _: apply(followed=True),
                PLAIN: lambda _: apply(followed=False),
            }
            met = judge(f"{BATCHES} batches of {TRADES} trades", lambda: in_turn(ways, options.rounds), GOALS)
            _parts(TradeQueue(make_publisher(settings)))
        finally:
            redis.stop()
    return 0 if met else 1


def _parts(queue: TradeQueue) -> None:
    batch = batch_at(0)

    def context() -> None:
        with logger.contextualize(batch=batch.id):
            logger.debug("batch committed", trades=1)

    print("\nmicroseconds a batch, to look at")
    for name, call in (
        ("summary", lambda: summaries.of_trades(batch, NAMES)),
        ("context and a line not told", context),
    ):
        print(f"  {name:42} {_each(call, 2000):9.1f}")
    celery = queue._celery
    for told in (True, False, True, False):
        celery.conf.task_send_sent_event = told
        celery.__dict__.pop("amqp", None)  # it keeps what it was made with
        print(f"  {f'published, event of the queue {told}':42} {_each(lambda: queue.send(batch, 0), 300):9.1f}")


def _each(call: Callable[[], object], times: int) -> float:
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - began) / times * 1e6)
    return median(rounds)


if __name__ == "__main__":
    sys.exit(main())
