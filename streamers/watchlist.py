"""The instruments to collect: read again when someone says they changed, and every few seconds in any case."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from loguru import logger
from redis import Redis, RedisError

from app.cache import keys
from app.domain.instruments import Instrument
from app.errors import Unavailable
from streamers.backoff import delays

POLL_S = 1.0  # also the longest the daemon's end waits for the thread

type Load = Callable[[], Sequence[Instrument]]
type Hint = Callable[[float], None]  # returns when the watchlist may have changed, at the latest after so many seconds


class Watchlist:
    """Calls `changed` with the instruments, at first and whenever they are others than before."""

    def __init__(self, load: Load, hint: Hint, changed: Callable[[Sequence[Instrument]], None]) -> None:
        self._load, self._hint, self._changed = load, hint, changed
        self._thread = ThreadPoolExecutor(1, "watchlist")
        self._last: tuple[Instrument, ...] | None = None

    async def run(self) -> None:
        """Watches until it is cancelled; with the database away the last list stays in force."""
        loop = asyncio.get_running_loop()
        waits, away = delays(Random(), cap_s=10.0), False
        try:
            while True:
                try:
                    found = tuple(await loop.run_in_executor(self._thread, self._load))
                except Unavailable as error:
                    if not away:
                        logger.warning("the watchlist cannot be read, trying again: {}", error)
                    away = True
                    await asyncio.sleep(next(waits))
                    continue
                waits, away = delays(Random(), cap_s=10.0), False
                if found != self._last:
                    self._last = found
                    self._changed(found)
                await loop.run_in_executor(self._thread, self._hint, POLL_S)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)


class RedisHint:
    """Waits for the `watchlist` message; with Redis away it just waits."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._subscribed = False

    def __call__(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                if not self._subscribed:
                    self._pubsub.subscribe(keys.WATCHLIST)
                    self._subscribed = True
                if self._pubsub.get_message(timeout=min(left_s, 1.0)) is not None:
                    return
            except RedisError:
                # The poll finds the change; the client subscribes again by itself once Redis is back.
                time.sleep(min(left_s, 1.0))
