"""Smoke tests of the real command line of the workers of trades, as pytest-celery's nodes, on each broker.

Nodes are processes of this machine. Where a Docker engine runs, the Redis broker is a container once more; RabbitMQ and
the workers never are.

A batch is held in the worker's hands by a lock on the ledger: what a signal meets is no matter of luck.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
)

from app.cache.signals import Signals, broker_of
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import Settings
from app.domain.trades import TradeBatch
from app.local.redis import RedisServer
from tests.factories import FILES, add_instrument, as_recorded, bars, cut, numbers, recorded_minutes, recorded_trades
from tests.integration.test_replay import empty
from tests.nodes import ServerContainer, WorkerContainer
from tests.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORKER, QUEUE = "worker-trades", "trades.0"
VISIBLE_S = 4  # after so long Redis gives a dead worker's message to another; RabbitMQ sees the connection end


@pytest.fixture(params=["redis", "rabbitmq", "container"])
def celery_broker_cluster(request: pytest.FixtureRequest) -> CeleryBrokerCluster:
    """Redis or RabbitMQ as processes; Redis as a container where a Docker engine runs."""
    if request.param == "container":
        _engine_or_skip()
        return CeleryBrokerCluster(request.getfixturevalue("celery_redis_broker"))
    fixture = {"redis": "own_redis", "rabbitmq": "rabbit"}[request.param]
    return CeleryBrokerCluster(CeleryTestBroker(ServerContainer(request.getfixturevalue(fixture))))


class Setup(CeleryTestSetup):
    """What the tests' own app needs to understand the workers' answers."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.accept_content = ["msgpack", "json"]

    def teardown(self) -> None:
        self.app.close()


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    """The setup of these tests."""
    return Setup


@pytest.fixture
def celery_backend_cluster(own_redis: RedisServer) -> CeleryBackendCluster:
    """The platform's tasks keep no results; this is the Redis beside them."""
    return CeleryBackendCluster(CeleryTestBackend(ServerContainer(own_redis)))


@pytest.fixture
def here(settings: Settings, own_redis: RedisServer, celery_broker_cluster: CeleryBrokerCluster) -> Settings:
    """The platform on this broker."""
    url = celery_broker_cluster[0].config()["host_url"]
    urls = {"redis_url": own_redis.url, "celery_broker_url": url, "visibility_timeout_s": VISIBLE_S}
    return settings.model_copy(update=urls)


@pytest.fixture
def celery_worker_cluster(here: Settings) -> Iterator[CeleryWorkerCluster]:
    """One worker of trades."""
    worker = CeleryTestWorker(WorkerContainer(here, WORKER), app=None)
    yield CeleryWorkerCluster(worker)
    worker.teardown()


@pytest.fixture
def batches(engine: sa.Engine, shared_data: Path) -> list[TradeBatch]:
    """The first day's trades, of an instrument without any."""
    empty(engine)
    return cut(recorded_trades(shared_data, add_instrument(engine), FILES[:1]), 200)


@contextmanager
def ledger_held(engine: sa.Engine) -> Iterator[None]:
    """No batch can be committed meanwhile."""
    with engine.connect() as connection:
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(sa.text("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE"))
        yield
        connection.rollback()


def waiting_for_lock(engine: sa.Engine) -> bool:
    """Whether a worker has a batch in its hands and stands before the ledger."""
    with engine.connect() as connection:
        held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ledger'::regclass"
        return bool(connection.scalar(sa.text(held)))


def send(here: Settings, batches: list[TradeBatch]) -> None:
    client = make_publisher(here)
    queue = TradeQueue(client)
    for batch in batches:
        queue.send(batch, 0)
    client.close()


def left(here: Settings, own_redis: RedisServer) -> int:
    """Messages in the queue."""
    client = redis.Redis.from_url(own_redis.url)
    broker = broker_of(client, redis_url=own_redis.url, broker_url=here.broker_url)
    try:
        return Signals(client, broker).queues([QUEUE])[QUEUE]
    finally:
        broker.close()
        client.close()


def applied_once(engine: sa.Engine, data: Path, worker: CeleryTestWorker) -> None:
    """Waits until every minute of the first day is as recorded, and no trade is in twice."""
    with engine.connect() as connection:
        instrument = int(connection.scalar(sa.text("SELECT id FROM instruments WHERE symbol = 'XRP/ETH'")) or 0)
    truth = {t: numbers(row) for t, row in recorded_minutes(data).items() if t < 1570752000000 + 86_400_000}

    def stored() -> bool:
        return {bar.time_ms: as_recorded(bar) for bar in bars(engine, instrument)} == truth

    try:
        until(stored, seconds=150, every=0.5)
    except AssertionError:
        raise AssertionError(f"{len(bars(engine, instrument))} of {len(truth)} bars\n{worker.logs()[-3000:]}") from None


def test_a_killed_worker_s_batch_is_delivered_again(
    celery_setup: CeleryTestSetup, here: Settings, own_redis: RedisServer, engine: sa.Engine,
    batches: list[TradeBatch], shared_data: Path,
) -> None:  # fmt: skip
    """SIGKILL with a batch in hand: another takes it over, and its trades are in once."""
    assert celery_setup.ready(control=True)
    worker = celery_setup.worker
    assert worker is not None
    with ledger_held(engine):
        send(here, batches)
        until(lambda: waiting_for_lock(engine), what="the worker holds a batch")
        assert left(here, own_redis) < len(batches)
        worker.kill()
    worker.restart()
    applied_once(engine, shared_data, worker)
    until(lambda: left(here, own_redis) == 0, what="nothing is left")


def test_a_warm_stop_finishes_and_a_cold_one_gives_back(
    celery_setup: CeleryTestSetup, here: Settings, own_redis: RedisServer, engine: sa.Engine,
    batches: list[TradeBatch], shared_data: Path,
) -> None:  # fmt: skip
    """SIGTERM lets a batch be finished; SIGQUIT returns it to the queue within its soft time; neither loses one."""
    worker = celery_setup.worker
    assert worker is not None
    container = worker.container
    with ledger_held(engine):
        send(here, batches[:10])
        until(lambda: waiting_for_lock(engine), what="the worker holds a batch")
        worker.kill(signal="SIGTERM")
        worker.assert_log_exists("Warm shutdown", timeout=60)
    assert container.wait() == 0, worker.logs()[-2000:]
    finished = 10 - left(here, own_redis)
    assert 1 <= finished < 10, "the one it held is done, the others wait"
    with ledger_held(engine):
        worker.restart()
        send(here, batches[10:])
        until(lambda: waiting_for_lock(engine), what="the worker holds a batch")
        worker.kill(signal="SIGQUIT")
        container.wait()
        assert left(here, own_redis) == len(batches) - finished, "the one it held is back"
    worker.restart()
    applied_once(engine, shared_data, worker)


def test_a_broker_s_restart_loses_nothing(
    celery_setup: CeleryTestSetup, here: Settings, own_redis: RedisServer, engine: sa.Engine,
    batches: list[TradeBatch], shared_data: Path,
) -> None:  # fmt: skip
    """The broker goes with batches queued and one in hand, and comes back with them."""
    worker, broker = celery_setup.worker, celery_setup.broker
    assert worker is not None and broker is not None
    with ledger_held(engine):
        send(here, batches)
        until(lambda: waiting_for_lock(engine), what="the worker holds a batch")
        broker.restart()
    applied_once(engine, shared_data, worker)
    until(lambda: left(here, own_redis) == 0, what="nothing is left")
    assert worker.container.status == "running"


def _engine_or_skip() -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no Docker on this machine")
    if subprocess.run([docker, "info"], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("no Docker engine answers")
