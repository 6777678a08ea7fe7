"""The workers' way out to Redis: messages, quotes, generations and counters, each in one round trip.

All of it is a hint or a figure: with Redis away the bars are stored all the same, charts read the database, and the
outbox publishes again. So a failure here is said once in a while and never fails a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import orjson
from loguru import logger
from redis import Redis, RedisError

from app.cache import charts, keys, pubsub
from app.cache.trail import add_to_trail
from app.domain.instruments import Instrument

# A late batch and an import of old trades tell of older prices than the last one. ARGV: field, JSON, time (ms), …
_KEEP_NEWER = """
for i = 1, #ARGV, 3 do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    if not known or cjson.decode(known)['time'] <= tonumber(ARGV[i + 2]) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
"""


class Committed(Protocol):
    """What a committed batch leaves behind (app.services.ports.Trail)."""

    @property
    def batch(self) -> str:
        """Its id."""

    @property
    def quotes(self) -> Mapping[str, tuple[float, int]]:
        """Last prices and their exchange times (ms) by instrument key."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is said of it to those who look for it."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What is counted, by reason."""


class RedisPublisher:
    """Publishes through one client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def send(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Publishes messages on a channel; raises RedisError with Redis away."""
        if messages:
            pubsub.send(self._redis, channel, messages)

    def hint(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """send() that passes over a Redis that is away."""
        self._try(lambda: self.send(channel, messages))

    def quote(self, quotes: Mapping[str, tuple[float, int]]) -> None:
        """Keeps last prices and their exchange times (ms) by instrument key, where none is known that is newer."""
        if quotes:
            self._try(lambda: self._redis.eval(*_keeping(quotes)))

    def bump(self, instruments: Iterable[Instrument]) -> None:
        """Makes cached charts stale; raises RedisError with Redis away."""
        charts.bump(self._redis, instruments)

    def count(self, reason: str, n: int = 1) -> None:
        """Counts under a reason."""
        self._try(lambda: self._redis.hincrby(keys.COUNTERS, reason, n))

    def applied(self, channel: str, messages: Sequence[Mapping[str, Any]], trail: Committed) -> None:
        """Publishes, keeps last prices, leaves the trail and counts, all in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        if trail.quotes:  # first: who hears of a bar may ask for the price
            pipe.eval(*_keeping(trail.quotes))
        if messages:
            pubsub.add(pipe, channel, messages)
        if trail.batch and trail.facts:
            add_to_trail(pipe, trail.batch, trail.facts)
        for reason, n in trail.counts.items():
            pipe.hincrby(keys.COUNTERS, reason, n)
        if len(pipe):
            self._try(pipe.execute)

    def _try(self, call: Any) -> None:
        try:
            call()
        except RedisError as error:
            logger.warning("Redis is away, charts are told later: {}", type(error).__name__)


def _keeping(quotes: Mapping[str, tuple[float, int]]) -> tuple[Any, ...]:
    """The arguments of EVAL that keep them."""
    rows = ((key, orjson.dumps({"price": price, "time": at}), at) for key, (price, at) in quotes.items())
    return _KEEP_NEWER, 1, keys.QUOTES, *chain.from_iterable(rows)
