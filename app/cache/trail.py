"""The trail of batches: the last ones that were committed, by id, for `python -m app trace`.

A Redis stream of bounded length; the entry's own id is the time of the note (ms), a moment after the commit. Empty
batches leave no trail. With Redis away it has gaps: the database alone knows whether a batch is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson
from redis import Redis
from redis.client import Pipeline

from app.cache import keys

MOST = 20_000  # batches: half an hour at ten a second, about 4 MB
PAGE = 1000

type Entry = tuple[bytes | str, dict[bytes | str, bytes | str]]


def add_to_trail(pipe: Pipeline, batch: str, facts: Mapping[str, Any]) -> None:
    """Has the pipeline note a committed batch and what was said of it: one field, its name the batch's id."""
    pipe.xadd(keys.BATCHES, {batch: orjson.dumps(facts)}, maxlen=MOST, approximate=True)


def find_in_trail(redis: Redis, batch: str) -> list[tuple[int, dict[str, Any]]]:
    """(when, ms; facts) of each delivery of the batch, the newest first; empty where it has gone from the trail."""
    found: list[tuple[int, dict[str, Any]]] = []
    last = "+"
    while page := cast(list[Entry], redis.xrevrange(keys.BATCHES, max=last, count=PAGE)):
        for entry, fields in page:
            for name, facts in fields.items():
                if _text(name) == batch:
                    found.append((int(_text(entry).partition("-")[0]), orjson.loads(facts)))
        last = f"({_text(page[-1][0])}"
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
