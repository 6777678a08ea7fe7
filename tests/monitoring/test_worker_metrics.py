"""What a real worker serves of itself: tasks that end well, fail, and are lost; no count goes back with a process."""

from __future__ import annotations

import time
import urllib.request

import psutil
import pytest
import redis
import sqlalchemy as sa

from app.cache.trade_queue import make_publisher
from app.config import Settings
from app.domain.trades import Mark, Trade, TradeBatch
from app.local.servers import free_port
from app.metrics.recorded import ENDED
from tests.factories import add_instrument
from tests.processes import processes, until


def served(port: int) -> dict[str, float]:
    """Sample with its labels → value; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def tasks(port: int, task: str) -> dict[str, float]:
    """State → how many tasks ended in it."""
    found = served(port)
    return {state: found.get(f'market_tasks_total{{state="{state}",task="{task}"}}', -1) for state in ENDED}


def batch(instrument: int, n: int, *, rows: int) -> bytes:
    """Batch `n` of a live run of Binance: so many trades of five seconds ago, handed over two seconds ago."""
    now_us = time.time_ns() // 1000
    trades = [Trade(instrument, now_us - 5_000_000, 100 * n + i, 100 * n + i, 10**8, 10**8, True) for i in range(rows)]
    mark = Mark(7, n, now_us, "binance", since_us=now_us - 10_000_000, subscribed=((instrument, now_us - 10_000_000),))
    return TradeBatch.of(trades, mark=mark, sent_us=now_us - 2_000_000, id=f"7-{n}").encode()


@pytest.mark.slow
def test_a_worker_tells_how_its_tasks_ended(settings: Settings, engine: sa.Engine, redis_client: redis.Redis) -> None:
    port, task = free_port(), "tasks.bars.ingest"
    instrument = add_instrument(engine, active=True)
    celery = make_publisher(settings)

    def send(*arguments: bytes) -> None:
        celery.send_task(task, args=arguments, queue="trades.0", ignore_result=True)

    here = settings.model_copy(update={"visibility_timeout_s": 5})
    with processes(here, METRICS_PORT=port, MARKET="live", MAX_DELIVERIES=50) as run:
        run.worker("trades")
        until(lambda: tasks(port, task)["success"] == 0, what="a zero before anything happened")
        send(batch(instrument, 1, rows=3))
        until(lambda: tasks(port, task)["success"] == 1, what="a batch")
        send()
        until(lambda: tasks(port, task)["failure"] == 1, what="a task that failed")
        with engine.begin() as connection:  # the next one waits for us
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(sa.text("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE"))
            send(batch(instrument, 2, rows=5))
            until(lambda: _waits(engine), what="the child waits in its task")
            (child,) = psutil.Process(run.running["trades"].pid).children()
            child.kill()
            until(lambda: tasks(port, task)["lost"] == 1, what="a task that was lost")
        until(lambda: tasks(port, task)["success"] == 2, what="it was delivered again")
        found = served(port)
    assert tasks_of(found, task) == {"success": 2, "failure": 1, "lost": 1}
    assert found['market_trades_total{exchange="binance"}'] == 8  # three of them told by a process that is gone
    assert found['market_batch_trades_count{exchange="binance"}'] == 2
    assert found['market_trade_to_commit_seconds_bucket{exchange="binance",le="2.5"}'] == 0
    assert found['market_enqueue_to_commit_seconds_bucket{exchange="binance",le="1.0"}'] == 0
    assert found['market_enqueue_to_commit_seconds_bucket{exchange="binance",le="+Inf"}'] == 2
    assert found[f'market_task_duration_seconds_count{{task="{task}"}}'] == 3  # the lost one had no time to tell
    assert found["process_resident_memory_bytes"] > 1e6


def tasks_of(found: dict[str, float], task: str) -> dict[str, float]:
    """State → count, of those that happened."""
    named = {state: found[f'market_tasks_total{{state="{state}",task="{task}"}}'] for state in ENDED}
    return {state: count for state, count in named.items() if count}


def _waits(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
