"""What Redis knows of the platform's state: heartbeats, counters, queues, last prices, and itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis

from app.cache import charts, health, keys, pubsub
from app.cache.queue_lengths import Broker, RedisBroker, broker_of

__all__ = ["Signals", "broker_of"]


class Signals:
    """Reads through one client, the queues through that of the broker.

    Every method raises RedisError; those of the broker BrokerAway, which is one.
    """

    def __init__(self, redis: Redis, broker: Broker | None = None) -> None:
        self._redis, self._broker = redis, broker or RedisBroker(redis)

    def beats(self) -> dict[str, dict[str, Any]]:
        """Each process's last facts, with `age_s`."""
        return health.read(self._redis)

    def counters(self) -> dict[str, int]:
        """Every counter by its reason."""
        return health.counters(self._redis)

    def queues(self, names: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""
        return self._broker.waiting(names)

    def taken(self) -> int | None:
        """How many messages workers have taken and not done with; None where the broker does not tell (RabbitMQ)."""
        return self._broker.taken()

    def parked(self) -> int:
        """How many messages were delivered too often and lie aside."""
        return int(self._redis.llen(keys.PARKED))

    def prices(self) -> dict[str, tuple[float, int]]:
        """Every last price and its exchange time (ms), by Instrument.key."""
        return pubsub.quotes(self._redis)

    def memory(self) -> tuple[int, int]:
        """The bytes Redis holds, and may hold at most; 0: no limit."""
        return charts.memory(self._redis)
