"""The workers' way out to Redis: messages, quotes, generations and counters, each in one round trip.

All of it is a hint or a figure: with Redis away the bars are stored all the same, charts read the database, and the
outbox publishes again. So a failure here is said once in a while and never fails a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from loguru import logger
from redis import Redis, RedisError

from app.cache import charts, keys
from app.cache.trail import add_to_trail
from app.domain.instruments import Instrument


class RedisPublisher:
    """Publishes through one client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def send(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Publishes messages on a channel; raises RedisError with Redis away."""
        if not messages:
            return
        pipe = self._redis.pipeline(transaction=False)
        for message in messages:
            pipe.publish(channel, orjson.dumps(message))
        pipe.execute()

    def hint(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """send() that passes over a Redis that is away."""
        self._try(lambda: self.send(channel, messages))

    def quote(self, quotes: Mapping[str, tuple[float, int]]) -> None:
        """Keeps last prices and their exchange times (ms) by instrument key."""
        if quotes:
            rows: dict[Any, Any] = {
                key: orjson.dumps({"price": price, "time": at}) for key, (price, at) in quotes.items()
            }
            self._try(lambda: self._redis.hset(keys.QUOTES, mapping=rows))

    def bump(self, instruments: Iterable[Instrument]) -> None:
        """Makes cached charts stale; raises RedisError with Redis away."""
        charts.bump(self._redis, instruments)

    def count(self, reason: str, n: int = 1) -> None:
        """Counts under a reason."""
        self._try(lambda: self._redis.hincrby(keys.COUNTERS, reason, n))

    def applied(self, batch: str, facts: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """Notes a batch in the trail (one without an id leaves none) and counts, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        if batch:
            add_to_trail(pipe, batch, facts)
        for reason, n in counts.items():
            pipe.hincrby(keys.COUNTERS, reason, n)
        self._try(pipe.execute)

    def _try(self, call: Any) -> None:
        try:
            call()
        except RedisError as error:
            logger.warning("Redis is away, charts are told later: {}", type(error).__name__)
