"""What Redis knows of the platform's state: heartbeats, counters, queues, last prices, and itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis

from app.cache import health, keys, pubsub

UNACKED = "unacked"  # kombu's: messages a worker has taken and not done with


class Signals:
    """Reads through one client, the queues through that of the broker; every method raises RedisError."""

    def __init__(self, redis: Redis, broker: Redis | None = None) -> None:
        self._redis, self._broker = redis, broker or redis

    def beats(self) -> dict[str, dict[str, Any]]:
        """Each process's last facts, with `age_s`."""
        return health.read(self._redis)

    def counters(self) -> dict[str, int]:
        """Every counter by its reason."""
        return health.counters(self._redis)

    def queues(self, names: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""
        pipe = self._broker.pipeline(transaction=False)
        for name in names:
            pipe.llen(name)
        return dict(zip(names, map(int, pipe.execute()), strict=True))

    def taken(self) -> int:
        """How many messages workers have taken and not done with."""
        return int(self._broker.hlen(UNACKED))

    def parked(self) -> int:
        """How many messages were delivered too often and lie aside."""
        return int(self._redis.llen(keys.PARKED))

    def prices(self) -> dict[str, tuple[float, int]]:
        """Every last price and its exchange time (ms), by Instrument.key."""
        return pubsub.quotes(self._redis)

    def memory(self) -> int:
        """The bytes Redis holds."""
        return int(self._redis.info("memory")["used_memory"])


def broker_of(redis: Redis, *, redis_url: str, broker_url: str) -> Redis:
    """The client that reads the queues: `redis` itself where the broker is the same server."""
    if broker_url == redis_url:
        return redis
    return Redis.from_url(broker_url, socket_timeout=3, socket_connect_timeout=3, health_check_interval=15)
