"""Best bid and ask, and trading halts, as streamers keep them in Redis."""

from __future__ import annotations

from typing import Any

import orjson
from redis import Redis

from app.cache import keys


def books(redis: Redis) -> dict[str, dict[str, Any]]:
    """Best bid and ask by Instrument.key: bid, bid_size, ask, ask_size, time (exchange ms)."""
    return _read(redis, keys.BOOK)


def halts(redis: Redis) -> dict[str, dict[str, Any]]:
    """What is not trading normally, by Instrument.key: code, reason, time (exchange ms)."""
    return _read(redis, keys.HALTS)


def _read(redis: Redis, key: str) -> dict[str, dict[str, Any]]:
    stored: dict[bytes | str, bytes | str] = redis.hgetall(key)
    return {
        name.decode() if isinstance(name, bytes) else name: orjson.loads(text) for name, text in sorted(stored.items())
    }
