"""The chart cache: encoded charts in Redis, each guarded by its instrument's generation.

A writer calls `bump` after its commit. A reader asks for the generation before it reads the database and stores the
value with it; a value whose generation is no longer the current one is never used. Generations are random tokens, not
numbers, so one that Redis lost cannot come back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from redis import Redis

from app.cache import keys
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe

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


def _token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
