"""The heartbeats that killed processes leave: `up` takes back those that no child of its own will ever beat again."""

from __future__ import annotations

from collections.abc import Set

from redis import Redis, RedisError

from app.cache import health
from app.logs import logger
from app.services.processes import strays


class Strays:
    """Looks whenever other children are there than the last time: at the start, and in a restart.

    A shard that is not there any more would be taken for one that is down, for ever: it was killed (a power cut, a stop
    that took too long), or Redis was away when it ended.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._children: Set[str] = frozenset()

    def clear(self, redis: Redis, children: Set[str]) -> None:
        """Call it now and then with the names of all children, those that come and go too; it never raises for Redis.

        With Redis away the next call tries again.
        """
        if children == self._children:
            return
        try:
            left = strays(health.names(redis), children, instance=self._instance)
            health.forget(redis, *left)
        except (RedisError, OSError) as error:
            logger.warning("heartbeats of processes that are gone are not taken back yet", error=str(error))
            return
        self._children = frozenset(children)
        if left:
            logger.info("took back heartbeats of processes that are none of ours: {}", ", ".join(left))
