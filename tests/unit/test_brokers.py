"""The forms of the broker's and Redis's URL, and what Celery is told of each."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from app.cache.addresses import Sentinels, connect, sentinels
from app.cache.broker import RETURNS, is_amqp, publisher_conf, queues, worker_conf
from app.cache.trade_queue import make_publisher
from app.config import Settings, load_settings
from app.errors import ConfigError, Unavailable
from app.local.report import without_password
from app.services.stages import Seen, stages
from app.services.status import Facts, Status, queue_names

RABBIT = "amqp://market:geheim@broker:5672/market"


def of(**urls: str) -> Settings:
    return load_settings(_env_file=None, **urls)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sentinel://a:1,b:2/mymaster/0", Sentinels((("a", 1), ("b", 2)), "mymaster")),
        ("sentinel://a,b/mymaster", Sentinels((("a", 26379), ("b", 26379)), "mymaster")),
        ("sentinel://:p%40ss@a/m/3", Sentinels((("a", 26379),), "m", 3, None, "p@ss")),
        (
            "sentinel://u:p@[::1]:5,a/m/1?sentinel_username=su&sentinel_password=s%26p",
            Sentinels((("::1", 5), ("a", 26379)), "m", 1, "u", "p", "su", "s&p"),
        ),
        ("redis://:p@localhost:6379/0", None),
        ("rediss://a/0", None),
        ("unix:///run/redis.sock", None),
    ],
)
def test_forms(url: str, expected: Sentinels | None) -> None:
    assert sentinels(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sentinel://a:1,b:2", "the master's name"),
        ("sentinel:///mymaster/0", "the Sentinels"),
        ("sentinel://a:port/m/0", "host:port"),
        ("sentinel://a/m/zero", "the database"),
        ("sentinel://a/m/0/1", "the database"),
        ("sentinel://a/m/0?password=secret1", "password means nothing here"),
        ("redis+cluster://a:1,b:2/0", "Redis Cluster cannot be used"),
        ("rediscluster://a:1", "Redis Cluster cannot be used"),
        ("http://a/0", "begins with redis://"),
        ("localhost:6379", "begins with redis://"),
    ],
)
def test_refused_forms(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        connect(url)
    assert str(caught.value).startswith("REDIS_URL: ") and "secret1" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    found = sentinels("sentinel://u:geheim1@a,b/m/0?sentinel_password=geheim2")
    assert found is not None and "geheim" not in repr(found)
    shown = without_password("sentinel://u:geheim1@a,b/m/0?sentinel_username=s&sentinel_password=geheim2")
    assert shown == "sentinel://u@a,b/m/0?sentinel_username=s"
    assert without_password(RABBIT) == "amqp://market@broker:5672/market"


def test_celery_behind_sentinels() -> None:
    url = "sentinel://u:p%40ss@a:1,[::1]:2/mymaster/3?sentinel_password=sp"
    for conf in (worker_conf(of(redis_url=url)), publisher_conf(of(redis_url=url))):
        assert conf["broker_url"] == "sentinel://u:p%40ss@a:1/3;sentinel://u:p%40ss@[::1]:2/3"
        options = conf["broker_transport_options"]
        assert options["master_name"] == "mymaster" and options["sentinel_kwargs"]["password"] == "sp"
        assert options["visibility_timeout"] == 60 and "confirm_publish" not in options


def test_rabbitmq_has_quorum_queues_and_confirms() -> None:
    settings = of(redis_url="redis://cache/0", celery_broker_url=RABBIT, trade_shards="2")
    assert [queue.name for queue in queues(settings)] == queue_names(settings)
    for conf in (worker_conf(settings), publisher_conf(settings)):
        options = conf["broker_transport_options"]
        assert conf["broker_url"] == RABBIT and options["confirm_publish"] is True
        assert not {"visibility_timeout", "unacked_restore_interval", "socket_timeout"} & set(options)
        for queue in conf["task_queues"]:
            assert queue.queue_arguments == {"x-queue-type": "quorum", "x-delivery-limit": RETURNS}
            assert queue.routing_key == queue.name and queue.durable
    # Both declare alike: a queue cannot be declared with other arguments than it has.
    client = make_publisher(settings)
    assert client.amqp.queues["trades.1"].queue_arguments["x-queue-type"] == "quorum"
    assert worker_conf(settings)["broker_heartbeat"] > 0 == publisher_conf(settings)["broker_heartbeat"]


def test_rabbitmq_by_tls_must_prove_itself() -> None:
    conf = worker_conf(of(celery_broker_url="amqps://u:p@broker.example.org:5671/v"))
    assert conf["broker_use_ssl"] == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "broker.example.org"}
    assert "broker_use_ssl" not in worker_conf(of(celery_broker_url=RABBIT))


@pytest.mark.parametrize("url", ["sqs://", "amq://a", "redis+cluster://a", "unix:///run/redis.sock"])
def test_unknown_brokers(url: str) -> None:
    with pytest.raises(ConfigError, match="CELERY_BROKER_URL"):
        is_amqp(url)


class Heard:
    """Signals of a platform whose broker is RabbitMQ, or away."""

    def __init__(self, *, away: bool) -> None:
        self.away = away

    def beats(self) -> dict[str, dict[str, Any]]:
        return {}

    def counters(self) -> dict[str, int]:
        return {}

    def prices(self) -> dict[str, tuple[float, int]]:
        return {}

    def queues(self, names: Any) -> dict[str, int]:
        if self.away:
            raise Unavailable("RabbitMQ does not answer")
        return dict.fromkeys(names, 2)

    def taken(self) -> int | None:
        return None

    def parked(self) -> int:
        return 0

    def memory(self) -> tuple[int, int]:
        return 1, 0


def look(*, away: bool) -> Facts:
    facts = Facts()
    status = Status(of(), None, None, None, lambda _: [])  # type: ignore[arg-type]
    status.hear(facts, Heard(away=away))
    return facts


def test_what_rabbitmq_does_not_tell_is_not_made_up() -> None:
    facts = look(away=False)
    assert facts.queues["taken, not done"] is None and facts.queues["trades.0"] == 2
    lane = next(lane for lane in stages(facts, Seen(True, True, 0, 1.0)) if lane.stage == "queue")
    assert lane.state == "ok" and lane.count == 12


def test_a_broker_that_is_away_is_told_apart_from_redis() -> None:
    facts = look(away=True)
    assert [trouble.what for trouble in facts.troubles] == ["The broker cannot be reached: nothing is worked on"]
    lane = next(lane for lane in stages(facts, Seen(True, True, 0, 1.0)) if lane.stage == "queue")
    assert (lane.state, lane.count) == ("broken", None) and facts.queues["parked"] == 0
