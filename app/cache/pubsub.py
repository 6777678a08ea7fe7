"""Publishing on Redis channels: what happened, said once, after the commit; a hint, never the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from redis import Redis
from redis.client import Pipeline

from app.cache import charts, keys


def publish(redis: Redis, channel: str, message: Mapping[str, Any]) -> None:
    """Publish `message` as JSON; raises redis.RedisError, which the caller may count and pass over."""
    send(redis, channel, [message])


def send(redis: Redis, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Publish several at once."""
    pipe = redis.pipeline(transaction=False)
    add(pipe, channel, messages)
    pipe.execute()


def add(pipe: Pipeline, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Have a pipeline publish them; answers remembered from before are void when the first of them arrives."""
    if channel == keys.WATCHLIST:
        charts.renew(pipe, [keys.WATCHLIST_VERSION])
    elif channel == keys.CHART_UPDATES:
        names = [(each["exchange"], each["symbol"]) for each in messages]
        settled = [name for name, each in zip(names, messages, strict=True) if _changes_settled(each)]
        charts.renew(pipe, [*(keys.live(*name) for name in names), *(keys.generation(*name) for name in settled)])
    for message in messages:
        pipe.publish(channel, orjson.dumps(message))


def _changes_settled(message: Mapping[str, Any]) -> bool:
    """Whether it tells of a bar that an encoded chart may hold, or ought to: before what follows is derived."""
    bars = (bar for part in message.get("series", {}).values() for bar in part.get("bars", ()))
    return bool(message.get("reload") or message.get("late")) or any(bar.get("state") != "open" for bar in bars)


def quotes(redis: Redis) -> dict[str, tuple[float, int]]:
    """Every instrument's last price and its exchange time (ms), by Instrument.key."""
    stored: dict[bytes | str, bytes | str] = redis.hgetall(keys.QUOTES)
    found = {}
    for key, text in stored.items():
        quote = orjson.loads(text)
        found[key.decode() if isinstance(key, bytes) else key] = (float(quote["price"]), int(quote["time"]))
    return found
