"""How each polled instrument fares, and until when nobody polls: shared by all processes, lost without harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from redis import Redis

from app.cache import keys
from app.domain.pace import Pace


class Paces:
    """The paces of polled instruments in one Redis hash, and the rest of all in one key that expires by itself."""

    def __init__(self, redis: Redis, source: str) -> None:
        self._redis, self._source = redis, source

    def read(self, instruments: Iterable[int]) -> dict[int, Pace]:
        """Each instrument's pace; a fresh one where nothing is known."""
        ids = list(instruments)
        if not ids:
            return {}
        found = self._redis.hmget(keys.polls(self._source), [str(i) for i in ids])
        return {i: Pace(*orjson.loads(text)) if text else Pace() for i, text in zip(ids, found, strict=True)}

    def put(self, paces: Mapping[int, Pace]) -> None:
        """Keeps paces."""
        if paces:
            rows: dict[Any, Any] = {str(i): orjson.dumps(list(pace)) for i, pace in paces.items()}
            self._redis.hset(keys.polls(self._source), mapping=rows)

    def rest(self, seconds: float) -> None:
        """Nobody polls for so long."""
        self._redis.set(keys.poll_rest(self._source), 1, px=max(1, int(seconds * 1000)))

    def rest_s(self) -> float:
        """How much longer nobody polls, in s; 0 where one may."""
        return max(0, int(self._redis.pttl(keys.poll_rest(self._source)))) / 1000
