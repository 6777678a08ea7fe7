"""Publishing on Redis channels: what happened, said once, after the commit; a hint, never the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from redis import Redis

from app.cache import charts, keys


def publish(redis: Redis, channel: str, message: Mapping[str, Any]) -> None:
    """Publish `message` as JSON; raises redis.RedisError, which the caller may count and pass over."""
    send(redis, channel, [message])


def send(
    redis: Redis, channel: str, messages: Sequence[Mapping[str, Any]], quotes: Mapping[Any, Any] | None = None
) -> None:
    """Publish several at once; answers remembered from before are void when the first of them arrives.

    `quotes`: encoded last prices by instrument key, kept in the same round trip.
    """
    pipe = redis.pipeline(transaction=False)
    if channel == keys.WATCHLIST:
        charts.renew(pipe, [keys.WATCHLIST_VERSION])
    elif channel == keys.CHART_UPDATES:
        charts.renew(pipe, [keys.live(each["exchange"], each["symbol"]) for each in messages])
    for message in messages:
        pipe.publish(channel, orjson.dumps(message))
    if quotes:
        pipe.hset(keys.QUOTES, mapping=dict(quotes))
    pipe.execute()


def quotes(redis: Redis) -> dict[str, tuple[float, int]]:
    """Every instrument's last price and its exchange time (ms), by Instrument.key."""
    stored: dict[bytes | str, bytes | str] = redis.hgetall(keys.QUOTES)
    found = {}
    for key, text in stored.items():
        quote = orjson.loads(text)
        found[key.decode() if isinstance(key, bytes) else key] = (float(quote["price"]), int(quote["time"]))
    return found
