"""A broker of the user's own that cannot be used is told before anything starts, and never waited for long."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from kombu.connection import Connection

from app.cache.queue_lengths import AmqpBroker, BrokerAway
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import Settings, load_settings
from app.errors import ConfigError, Unavailable
from app.local.brokers import check_brokers
from app.local.redis import RedisServer
from app.local.runfile import Run
from app.local.servers import free_port
from app.local.work import Queues
from tests.processes import until
from tests.rabbitmq import RabbitServer


def on(url: str, **others: str) -> Settings:
    return load_settings(celery_broker_url=url, _env_file=None, **others)


def refused(settings: Settings) -> str:
    with pytest.raises(ConfigError) as caught:
        check_brokers(settings, say=lambda _: None)
    return str(caught.value)


@pytest.mark.slow
def test_rabbitmq_is_checked(rabbit: RabbitServer) -> None:
    said: list[str] = []
    check_brokers(on(rabbit.url), say=said.append)
    assert len(said) == 1 and "RabbitMQ at amqp://market@127.0.0.1" in said[0]
    place = f"127.0.0.1:{rabbit.port}"
    wrong = refused(on(f"amqp://market:wrong-one@{place}/market"))
    assert "refuses this user or password" in wrong and "wrong-one" not in wrong
    missing = refused(on(f"amqp://market:{quote(rabbit.password)}@{place}/nowhere"))
    assert "no vhost 'nowhere'" in missing and rabbit.password not in missing
    away = refused(on(f"amqp://market:secret1@127.0.0.1:{free_port()}/market"))
    assert "cannot be reached" in away and "secret1" not in away


@pytest.mark.slow
def test_a_frozen_rabbitmq_holds_nobody(rabbit: RabbitServer) -> None:
    """It takes connections and answers nothing, as on a machine that swaps: publisher and status give up in time."""
    client, lengths = make_publisher(on(rabbit.url)), AmqpBroker(rabbit.url)
    queue = TradeQueue(client)
    assert queue.waiting(0) == 0 and lengths.waiting(["trades.0", "none"]) == {"trades.0": 0, "none": 0}
    queue._publish("tasks.bars.ingest", b"x", "trades.0", "a batch")
    assert (queue.waiting(0), lengths.waiting(["trades.0"]), lengths.taken()) == (1, {"trades.0": 1}, None)
    assert rabbit.process is not None
    rabbit.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(BrokerAway):
            lengths.waiting(["trades.0"])
        with pytest.raises(BrokerAway):  # at once: it is left alone for a while
            lengths.waiting(["trades.0"])
        assert time.monotonic() - began < 15
        began = time.monotonic()
        with pytest.raises(Unavailable):
            queue._publish("tasks.bars.ingest", b"x", "trades.0", "a batch")
        assert time.monotonic() - began < 30
    finally:
        rabbit.process.send_signal(signal.SIGCONT)
    until(lambda: published(queue), what="publishing goes on")
    lengths.close()
    client.close()


def published(queue: TradeQueue) -> bool:
    try:
        queue._publish("tasks.bars.ingest", b"x", "trades.0", "a batch")
    except Unavailable:
        return False
    return True


def test_redis_is_checked(own_redis: RedisServer, tmp_path: Path) -> None:
    said: list[str] = []
    check_brokers(load_settings(redis_url=own_redis.url, _env_file=None), say=said.append)
    assert not said
    wrong = refused(load_settings(redis_url=f"redis://:wrong-one@127.0.0.1:{own_redis.port}/0", _env_file=None))
    assert wrong.startswith("REDIS_URL: ") and "refuses this user or password" in wrong and "wrong-one" not in wrong
    away = refused(on(f"redis://127.0.0.1:{free_port()}/0", redis_url=own_redis.url))
    assert away.startswith("CELERY_BROKER_URL: ") and "cannot be reached" in away


def test_a_socket_of_the_file_system_is_no_broker() -> None:
    socket = "unix:///run/redis.sock"
    alone = refused(load_settings(redis_url=socket, _env_file=None))
    assert alone.startswith("REDIS_URL: ") and "or set CELERY_BROKER_URL to one" in alone
    assert refused(on(socket, redis_url=socket)).startswith("CELERY_BROKER_URL: ")


def test_what_is_left_for_a_worker_counts_what_it_has_taken(own_redis: RedisServer, tmp_path: Path) -> None:
    settings = on("", redis_url=own_redis.url)
    run = Run(0, 0.0, "", "", "", "", own_redis.url, "", "", "")
    work = Queues(run)
    client = make_publisher(settings)
    queue = TradeQueue(client)
    try:
        for name in ("trades.0", "trades.1", "trades.1", "bars"):
            queue._publish("tasks.bars.ingest", b"x", name, "a batch")
        assert work.left(["trades.1"]) == 2 and work.unread(1) == {"trades.1": 2}
        with Connection(own_redis.url) as connection:
            for name in ("trades.0", "trades.1", "trades.1"):
                assert connection.default_channel.basic_get(name) is not None  # and not acknowledged
            assert work.left(["trades.1"]) == 2 and work.unread(1) == {}
            work.close()
        assert work.left(["trades.1"]) == 2, "they came back"
    finally:
        client.close()
        work.close()
    own_redis.stop()
    assert work.left(["trades.1"]) == 1 and work.unread(1) == {}, "nobody knows"
    own_redis.start()


def test_a_member_of_a_redis_cluster_is_refused(tmp_path: Path) -> None:
    server = ClusterMember(tmp_path)
    server.start()
    try:
        assert "part of a Redis Cluster" in refused(load_settings(redis_url=server.url, _env_file=None))
    finally:
        server.stop()


class ClusterMember(RedisServer):
    """A Redis that only knows how to be one of a cluster."""

    def _prepare(self) -> None:
        super()._prepare()
        with (self.dir / "redis.conf").open("a") as config:
            config.write("cluster-enabled yes\ncluster-config-file nodes.conf\n")
