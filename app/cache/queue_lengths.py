"""What waits in the broker's queues, asked of Redis or RabbitMQ; a broker that is away is not waited for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from amqp.exceptions import AMQPError, NotFound
from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis import Redis, RedisError

from app.cache.addresses import connect
from app.cache.broker import SETTING, impatient, is_amqp, tls
from app.errors import Unavailable

UNACKED = "unacked"  # kombu's: messages a worker has taken and not done with
REST_S = 3.0  # a broker that did not answer is left alone for so long
AMQP_S = 2.0
AMQP_ERRORS = (AMQPError, KombuError, OSError)


class BrokerAway(Unavailable, RedisError):
    """Raised when the broker does not answer; a RedisError too, for those who know brokers as Redis."""


class Broker(Protocol):
    """A broker's queues."""

    def waiting(self, names: Sequence[str], /) -> dict[str, int]:
        """How many messages wait in each queue; raises BrokerAway."""

    def taken(self) -> int | None:
        """How many messages workers have taken and not done with; None where the broker does not tell."""

    def taken_from(self, names: Sequence[str], /) -> int | None:
        """How many of them came from these queues; None where the broker does not tell."""

    def close(self) -> None:
        """Lets go of connections."""


class RedisBroker:
    """Queues are lists."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.llen(name)
        with _away():
            return dict(zip(names, map(int, pipe.execute()), strict=True))

    def taken(self) -> int | None:
        """How many messages workers have taken and not done with."""
        with _away():
            return int(self._client.hlen(UNACKED))

    def taken_from(self, names: Sequence[str]) -> int | None:
        """How many of them came from these queues; reads them all, so it is for a rare question."""
        with _away():
            found: list[bytes | str] = self._client.hvals(UNACKED)
        # Kombu's: [message, exchange, routing key], and the key is the queue's name.
        return sum(json.loads(one)[2] in names for one in found)

    def close(self) -> None:
        """Lets go of connections; the client may be used again."""
        self._client.close()


class AmqpBroker:
    """RabbitMQ over one connection. What workers hold is known to its management plugin only, which may be off."""

    def __init__(self, url: str) -> None:
        self._url, self._lock = url, threading.Lock()
        self._connection: Connection | None = None
        self._again = 0.0

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue; none in one that no worker has declared yet."""
        with self._lock:
            if time.monotonic() < self._again:
                raise BrokerAway("RabbitMQ does not answer")
            try:
                return {name: self._length(name) for name in names}
            except AMQP_ERRORS as error:
                self._forget()
                self._again = time.monotonic() + REST_S
                raise BrokerAway(f"RabbitMQ does not answer: {type(error).__name__}") from error

    def taken(self) -> int | None:
        """Not known."""
        return None

    def taken_from(self, names: Sequence[str]) -> int | None:
        """Not known."""
        return None

    def close(self) -> None:
        """Lets go of the connection; the next question opens another."""
        with self._lock:
            self._forget()

    def _length(self, name: str) -> int:
        if self._connection is None:
            self._connection = amqp_connection(self._url)
            self._connection.connect()
        channel: Any = self._connection.default_channel
        try:
            return int(channel.queue_declare(name, passive=True).message_count)
        except NotFound:
            return 0  # and the channel is closed: the next question opens another

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.collect()
            self._connection = None


def amqp_connection(url: str) -> Connection:
    """A connection for a question or two; nothing connects yet."""
    options = {"max_retries": 0, "on_open": impatient}
    return Connection(url, connect_timeout=AMQP_S, heartbeat=0, ssl=tls(url) or False, transport_options=options)


def broker_of(redis: Redis, *, redis_url: str, broker_url: str) -> Broker:
    """The broker's queues, read through `redis` itself where the broker is the same server."""
    if broker_url == redis_url:
        return RedisBroker(redis)
    if is_amqp(broker_url):
        return AmqpBroker(broker_url)
    options = {"socket_timeout": 3, "socket_connect_timeout": 3, "health_check_interval": 15}
    return RedisBroker(connect(broker_url, setting=SETTING, **options))


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise BrokerAway(f"the broker does not answer: {type(error).__name__}") from error
