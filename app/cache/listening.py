"""Hearing what is published: a subscription that notices a Redis which vanished or hangs.

To a silent connection nothing happens by itself: redis-py sends a PING once in a while and never misses the answer, and
TCP, with that PING unacknowledged, gives up after a quarter of an hour. So we ask when it is silent, and want answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis import Redis

WAIT_S = 5.0  # of silence, after which Redis is asked whether it is there
MOST_UNANSWERED = 2  # questions; then it is not


@contextmanager
def listening(client: Redis, *channels: str) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Subscribed to the channels; the function waits for the next message, and now and then returns None without one.

    Both raise RedisError once Redis does not answer, for longer than `WAIT_S` times `MOST_UNANSWERED` and once more.
    """
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(*channels)
        if pubsub.get_message(timeout=WAIT_S) is None:  # the confirmation: only now nothing is missed
            raise _no_answer()
        unanswered = 0

        def hear() -> dict[str, Any] | None:
            nonlocal unanswered
            message: dict[str, Any] | None = pubsub.get_message(timeout=WAIT_S)
            if message is not None:
                unanswered = 0
                return message if message["type"] == "message" else None
            if unanswered >= MOST_UNANSWERED:
                raise _no_answer()
            pubsub.ping()
            unanswered += 1
            return None

        yield hear


def _no_answer() -> Exception:
    return redis.ConnectionError("no answer to a subscription")
