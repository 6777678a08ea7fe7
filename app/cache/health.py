"""Heartbeats and counters of the platform's processes, in two Redis hashes.

A streamer beats as `streamer-<exchange>` (`streamer-<exchange>-<shard>` where there are several) and says at least:
`exchange`, `feed` (connected, reconnecting, down), `since` (wall ms of the last change of `feed`) and `at` (exchange
ms up to which everything was received). Every other process says what it likes.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

import orjson
from redis import Redis

from app.cache import keys

BEAT_MS = "beat_ms"  # wall ms of the heartbeat, added to the facts
LIFE = "life"
_life: tuple[int, str] = (0, "")


def beat(redis: Redis, process: str, facts: Mapping[str, Any]) -> None:
    """Say that `process` lives, with `facts` about it; call it each second or two."""
    redis.hset(keys.HEALTH, process, orjson.dumps({**facts, BEAT_MS: time.time_ns() // 1_000_000}).decode())


def forget(redis: Redis, *processes: str) -> None:
    """Take back the heartbeats of processes that ended on purpose, or that are gone."""
    if processes:
        redis.hdel(keys.HEALTH, *processes)


def owned() -> dict[str, Any]:
    """The facts by which a process knows its own heartbeat again: another container's has the same id, often."""
    global _life
    if _life[0] != os.getpid():
        _life = (os.getpid(), secrets.token_hex(4))
    return {"pid": os.getpid(), LIFE: _life[1]}


def take_back(redis: Redis, process: str) -> None:
    """Take back our heartbeat as `process`, unless it is a successor's by now."""
    if (read_one(redis, process) or {}).get(LIFE) == owned()[LIFE]:
        forget(redis, process)


def prune(redis: Redis, *, older_s: float) -> None:
    """Drop what instances said (`process@instance`) that are gone: their names do not come back."""
    for process, facts in read(redis).items():
        if "@" in process and facts["age_s"] > older_s:
            forget(redis, process)


def names(redis: Redis) -> list[str]:
    """Whose heartbeats there are, fresh or not."""
    return sorted(map(_text, redis.hkeys(keys.HEALTH)))


def read(redis: Redis) -> dict[str, dict[str, Any]]:
    """Each process's last facts, with `age_s`, the wall seconds since it said them."""
    now_ms = time.time_ns() // 1_000_000
    told = redis.hgetall(keys.HEALTH)
    return dict(sorted((_text(process), _aged(text, now_ms)) for process, text in told.items()))


def read_one(redis: Redis, process: str) -> dict[str, Any] | None:
    """The last facts of one process, with `age_s`; None where it said none, or took them back."""
    text = redis.hget(keys.HEALTH, process)
    return None if text is None else _aged(text, time.time_ns() // 1_000_000)


def _aged(text: bytes | str, now_ms: int) -> dict[str, Any]:
    facts: dict[str, Any] = orjson.loads(text)
    facts["age_s"] = max(0, now_ms - int(facts.get(BEAT_MS, 0))) / 1000
    return facts


def count(redis: Redis, reason: str, n: int = 1) -> None:
    """Add `n` to the counter `reason`: everything dropped, refused, repaired or late is counted."""
    redis.hincrby(keys.COUNTERS, reason, n)


def counters(redis: Redis) -> dict[str, int]:
    """Every counter by its reason."""
    return {_text(reason): int(value) for reason, value in sorted(redis.hgetall(keys.COUNTERS).items())}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
