"""The heartbeat of a process: beaten from its own main loop, so that a loop that hangs is not heard of."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loguru import logger
from redis import Redis, RedisError

from app.cache import health
from app.config import Settings

EVERY_S = 5.0
AWAY_S = 15.0  # until the next attempt, where Redis did not answer: a loop is not to wait for it all the time
PATIENCE_S = 0.5


class Heart:
    """Says in `system:health` that the process `name` lives, at most every five seconds, and takes it back at the end.

    The first time it takes back what was said under the names that it is `instead_of`: nobody has them any more.
    `beat` never raises and never takes longer than half a second or so, behind Sentinels of which none answers a
    quarter of one for each: with Redis away nothing is said.
    """

    def __init__(self, redis: Redis | None, name: str, *, instead_of: Sequence[str] = ()) -> None:
        self.name, self._instead_of = name, instead_of
        self._redis, self._pid = redis, os.getpid()
        self._next_s = -1e9  # of time.monotonic()
        self._said = self._away = False

    def beat(self, facts: Mapping[str, Any] | None = None) -> None:
        """Call it from the main loop, as often as you like."""
        if self._redis is None or time.monotonic() < self._next_s or not self._ours:
            return
        try:
            health.beat(self._redis, self.name, {**health.owned(), **(facts or {})})
            if self._instead_of and not self._said:
                health.forget(self._redis, *self._instead_of)
            self._said, self._away = True, False
            self._next_s = time.monotonic() + EVERY_S
        except (RedisError, OSError) as error:
            if not self._away:
                logger.warning("Redis away, no heartbeat: {}", type(error).__name__)
            self._away = True
            self._next_s = time.monotonic() + AWAY_S

    def stop(self) -> None:
        """Takes the heartbeat back: the process ends on purpose."""
        if self._redis is None or not (self._said and self._ours):
            return
        self._said = False
        try:
            health.take_back(self._redis, self.name)
        except (RedisError, OSError) as error:
            logger.warning("the heartbeat could not be taken back: {}", type(error).__name__)

    @property
    def _ours(self) -> bool:
        """A pool child has a copy of its parent's heart, and does not speak for it."""
        return os.getpid() == self._pid


def heart_of(settings: Settings, name: str, *, instead_of: Sequence[str] = ()) -> Heart:
    """A heart that takes its heartbeat back when the interpreter ends; one without a REDIS_URL is silent.

    `name` is that of `Settings.named`.
    """
    from app.cache.client import make_redis  # not before the process is at work

    redis = make_redis(settings, patience_s=PATIENCE_S) if settings.redis_url else None
    heart = Heart(redis, name, instead_of=instead_of)
    atexit.register(heart.stop)
    return heart
