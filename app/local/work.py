"""What is left in the queues of the workers of a run, asked of its broker over one connection."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from app.cache.addresses import connect
from app.cache.queue_lengths import Broker, broker_of
from app.local.runfile import Run

PATIENCE_S = 3.0
MOST_SHARDS = 64  # as TRADE_SHARDS allows
UNKNOWN = 1


class Queues:
    """The queues of one run; connects when it is first asked."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._redis: redis.Redis | None = None
        self._broker: Broker | None = None

    def left(self, queues: Sequence[str]) -> int:
        """How many messages wait in these queues, or were taken from them and are not done; 1 where nobody knows.

        One whose worker was killed comes back into its queue late. RabbitMQ gives such a message back at once.
        """
        try:
            broker = self._asked()
            # Taken ones first: what comes back in between is counted then, and not overlooked.
            return (broker.taken_from(queues) or 0) + sum(broker.waiting(queues).values())
        except (redis.RedisError, OSError):
            return UNKNOWN  # it is not to leave yet

    def unread(self, shards: int) -> dict[str, int]:
        """The queues of trades above so many shards that hold anything: no worker reads those."""
        try:
            found = self._asked().waiting([f"trades.{n}" for n in range(shards, MOST_SHARDS)])
        except (redis.RedisError, OSError):
            return {}  # whoever needs the broker says that it is away
        return {name: n for name, n in found.items() if n}

    def close(self) -> None:
        """Lets go of connections; the next question opens another."""
        if self._broker is not None:
            self._broker.close()
        if self._redis is not None:
            self._redis.close()
        self._broker = self._redis = None

    def _asked(self) -> Broker:
        if self._broker is None:
            run = self._run
            self._redis = connect(run.redis_url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
            url = run.celery_broker_url or run.redis_url
            self._broker = broker_of(self._redis, redis_url=run.redis_url, broker_url=url)
        return self._broker
