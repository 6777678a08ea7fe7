"""The chart cache: encoded charts in Redis, each guarded by its instrument's generation.

A writer calls `bump` after its commit. A reader asks for the generation before it reads the database and stores the
value with it; a value whose generation is no longer the current one is never used. Generations are random tokens, not
numbers, so one that Redis lost cannot come back.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

from loguru import logger
from redis import Redis, RedisError

from app.cache import keys
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.metrics import recorded

_TOKEN_BYTES = 8
_TOKEN_CHARS = 2 * _TOKEN_BYTES


def bump(redis: Redis, instruments: Iterable[Instrument]) -> None:
    """Make every cached chart of these instruments stale; call it after the commit, before publishing."""
    tokens = {keys.generation(each.exchange.value, each.symbol): _token() for each in instruments}
    if tokens:
        redis.mset(tokens)


def generation(redis: Redis, instrument: Instrument) -> bytes:
    """The instrument's current generation, made now where it has none."""
    key = keys.generation(instrument.exchange.value, instrument.symbol)
    current = redis.get(key)
    if current is None:
        redis.set(key, _token(), nx=True)
        current = redis.get(key)
    return _bytes(current) if current is not None else b""


def get(redis: Redis, instrument: Instrument, timeframe: Timeframe) -> bytes | None:
    """The cached chart, or None where there is none of the current generation; one round trip."""
    exchange, symbol = instrument.exchange.value, instrument.symbol
    current, value = redis.mget(keys.generation(exchange, symbol), keys.chart(exchange, symbol, timeframe.value))
    if current is None or value is None or _bytes(value)[:_TOKEN_CHARS] != _bytes(current):
        return None
    return _bytes(value)[_TOKEN_CHARS:]


def put(
    redis: Redis, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes, ttl_s: int
) -> None:
    """Keep `value`, read from the database after `generation` was asked for, for `ttl_s` seconds."""
    if len(generation) == _TOKEN_CHARS:
        key = keys.chart(instrument.exchange.value, instrument.symbol, timeframe.value)
        redis.set(key, generation + value, ex=ttl_s)


class ChartCache:
    """The chart cache as a reader uses it: with Redis away every look-up is a miss, and nothing waits for it.

    After a failure Redis is left alone for `REST_S`, so that a dead server costs one time-out, not one a request.
    """

    REST_S = 1.0

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis, self._ttl_s = redis, ttl_s
        self._away_until = 0.0

    def generation(self, instrument: Instrument) -> bytes:
        """The instrument's generation; empty with Redis away, and put() then keeps nothing."""
        return self._ask(lambda: generation(self._redis, instrument)) or b""

    def get(self, instrument: Instrument, timeframe: Timeframe) -> bytes | None:
        """The cached chart of the current generation, or None."""
        found = self._ask(lambda: get(self._redis, instrument, timeframe))
        recorded.chart_looked_up(hit=found is not None)
        return found

    def put(self, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes) -> None:
        """Keep `value` for the time to live."""
        self._ask(
            lambda: put(self._redis, instrument, timeframe, value=value, generation=generation, ttl_s=self._ttl_s)
        )

    def _ask[T](self, question: Callable[[], T]) -> T | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            return question()
        except RedisError as error:
            self._away_until = time.monotonic() + self.REST_S
            logger.warning("chart cache away, reading the database: {}", type(error).__name__)
            return None


def _token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
