"""The broker: what Celery is told of it, by the scheme of its URL. Redis, Redis behind Sentinels, or RabbitMQ."""

from __future__ import annotations

import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

from kombu.entity import Exchange, Queue

from app.cache.addresses import sentinels
from app.config import Settings
from app.errors import ConfigError

DEFAULT_QUEUE = "upkeep"
QUEUES = ("bars", "indicators", "polling", "backfill", DEFAULT_QUEUE)  # those of trades come before them, by shard
AMQP = ("amqp", "amqps")
SETTING = "CELERY_BROKER_URL"

# tasks/base.py parks a message long before; this ends what it could not count, with Redis away all the while. A batch
# that waits for its database comes back every 20 s, and RabbitMQ 4 would drop it by itself at its 20th return.
RETURNS = 100_000
SOCKET_S = 5.0  # a broker half open must not hold a publisher
CONFIRM_S = 5.0
HEARTBEAT_S = 20  # a worker whose connection is silent for twice as long gives back what it has taken


def is_amqp(url: str, *, setting: str = SETTING) -> bool:
    """Whether the broker is RabbitMQ; raises ConfigError, by `setting`, for a broker the platform does not know."""
    scheme = url.split("://", 1)[0].lower()
    if scheme in AMQP:
        return True
    if scheme == "unix":
        other = "" if setting == SETTING else f"; use one of these, or set {SETTING} to one"
        raise ConfigError(f"{setting}: Redis as broker is reached by redis://, rediss:// or sentinel://{other}")
    sentinels(url, setting=setting)
    return False


def queues(settings: Settings) -> list[Queue]:
    """Every queue of the workers: on RabbitMQ quorum queues, replicated on a cluster and on disk before a confirm."""
    names = [*(f"trades.{shard}" for shard in range(settings.trade_shards)), *QUEUES]
    if not settings.broker_url or not is_amqp(settings.broker_url):
        return [Queue(name) for name in names]
    exchange = Exchange(DEFAULT_QUEUE, type="direct")
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": RETURNS}
    return [Queue(name, exchange, routing_key=name, durable=True, queue_arguments=arguments) for name in names]


def worker_conf(settings: Settings) -> dict[str, Any]:
    """Celery's settings of workers and beat."""
    url = settings.broker_url
    common = {"task_default_queue": DEFAULT_QUEUE, "task_queues": queues(settings)}
    if is_amqp(url):
        # At each start it warns of every queue that tasks cannot be delayed there; none are.
        logging.getLogger("kombu.transport.native_delayed_delivery").setLevel(logging.ERROR)
        return common | _amqp(url) | {"broker_heartbeat": HEARTBEAT_S, "broker_heartbeat_checkrate": 2}
    timing = {
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 3,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        "socket_keepalive": True,
    }
    return common | _redis(url, timing)


def publisher_conf(settings: Settings) -> dict[str, Any]:
    """Celery's settings of those who only publish: they fail early, and keep their own messages meanwhile."""
    url = settings.broker_url
    common = {"task_default_queue": DEFAULT_QUEUE, "task_queues": queues(settings)}
    if is_amqp(url):
        # Nobody would send heartbeats between two batches; a dead connection shows at the next confirm.
        return common | _amqp(url, max_retries=0) | {"broker_heartbeat": 0}
    timing = {
        "socket_timeout": SOCKET_S,
        "socket_connect_timeout": SOCKET_S,
        "health_check_interval": 10,
        "visibility_timeout": settings.visibility_timeout_s,
    }
    return common | _redis(url, timing)


def _redis(url: str, timing: dict[str, Any]) -> dict[str, Any]:
    found = sentinels(url, setting=SETTING)
    if found is None:
        return {"broker_url": url, "broker_transport_options": timing}
    asking = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, **found.login}
    options = {**timing, "master_name": found.master, "sentinel_kwargs": asking}
    return {"broker_url": found.celery_url(), "broker_transport_options": options}


def _amqp(url: str, *, max_retries: int = 3) -> dict[str, Any]:
    """A publish counts once the broker has confirmed it, which a quorum queue does when it is on disk."""
    found: dict[str, Any] = {
        "broker_url": url,
        "broker_connection_timeout": SOCKET_S,
        "broker_transport_options": {
            "confirm_publish": True,
            "on_open": impatient,
            "max_retries": max_retries, "interval_start": 0, "interval_step": 0.2, "interval_max": 1.0,
        },
        "task_default_queue_type": "quorum",
        "task_default_exchange": DEFAULT_QUEUE,
        "worker_detect_quorum_queues": True,  # they know no prefetch over all consumers of a channel
        # Nothing is sent with a delay here; each worker's start declares 28 queues for that all the same.
        "broker_native_delayed_delivery_queue_type": "classic",
    }  # fmt: skip
    if secured := tls(url):
        found["broker_use_ssl"] = secured
    return found


def impatient(connection: Any) -> None:
    """Bounds every wait on an opened AMQP connection: the library's own waits for answers have no end."""
    connection.transport.sock.settimeout(SOCKET_S)


def tls(url: str) -> dict[str, Any] | None:
    """How an `amqps://` broker must prove itself: a certificate of its host's name; None without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "amqps":
        return None
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
