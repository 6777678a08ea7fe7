"""The chart cache: encoded charts in Redis, each guarded by its instrument's generation.

A writer calls `bump` after its commit. A reader asks for the generation before it reads the database and stores the
value with it; a value whose generation is no longer the current one is never used. Generations are random tokens, not
numbers, so one that Redis lost does not come back, but with an older state of Redis, after a failover or a power cut:
then whoever begins to hear messages has all of them renewed (webapp.live). What a web process remembers is guarded by
two more tokens of the kind, which change with every message about the instrument and with the watchlist
(app.cache.pubsub).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import batched

from loguru import logger
from redis import Redis, RedisError, ResponseError

from app.cache import keys
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.domain.versions import Versions
from app.metrics import recorded

_TOKEN_BYTES = 8
_TOKEN_CHARS = 2 * _TOKEN_BYTES


def bump(redis: Redis, instruments: Iterable[Instrument]) -> None:
    """Make every cached chart of these instruments stale; call it after the commit, before publishing."""
    renew(redis, [keys.generation(each.exchange.value, each.symbol) for each in instruments])


def touch(redis: Redis, instruments: Iterable[Instrument]) -> None:
    """Make every remembered answer about these instruments stale; call it before telling what is new."""
    renew(redis, [keys.live(each.exchange.value, each.symbol) for each in instruments])


def renew(redis: Redis, names: Iterable[str]) -> None:
    """Give each of these keys another token; a Redis that is full only takes the old one away, which voids as much."""
    tokens = {name: _token() for name in names}
    if tokens:
        redis.delete(*tokens)
        redis.mset(tokens)


def void_old(redis: Redis, *, again: bool) -> None:
    """Make every cached chart stale where Redis may be in an older state; raises RedisError.

    That is where somebody subscribes `again`, and where the server was started, or became the master, after this was
    done the last time. Else a process that starts finds the charts that others have made.
    """
    run = _run_of(redis)
    if run and not again and redis.get(keys.CHART_SERVER) == run:
        return
    for names in batched(redis.scan_iter(keys.generation("*", "*"), count=1000), 500):
        redis.delete(*names)
    if run:
        with suppress(ResponseError):  # a full server: the next process makes them stale once more
            redis.set(keys.CHART_SERVER, run)


def _run_of(redis: Redis) -> bytes:
    """What names this run of the server; empty where it may not be asked."""
    try:
        return str(redis.info("server")["run_id"]).encode()
    except (ResponseError, KeyError):
        return b""


def versions(redis: Redis, instrument: Instrument) -> Versions:
    """The current tokens, made now where there are none."""
    names = _names(instrument)
    found = redis.mget(names)
    if None in found:
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.set(name, _token(), nx=True)
        pipe.mget(names)
        found = pipe.execute()[-1]
    return Versions(*(_bytes(token or b"") for token in found))


def get(redis: Redis, instrument: Instrument, timeframe: Timeframe, *, generation: bytes) -> bytes | None:
    """The cached chart, or None where there is none of this generation."""
    value = redis.get(keys.chart(instrument.exchange.value, instrument.symbol, timeframe.value))
    if value is None or len(generation) != _TOKEN_CHARS or _bytes(value)[:_TOKEN_CHARS] != generation:
        return None
    return _bytes(value)[_TOKEN_CHARS:]


def put(
    redis: Redis, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes, ttl_s: int
) -> None:
    """Keep `value`, read from the database after `generation` was asked for, for `ttl_s` seconds."""
    if len(generation) == _TOKEN_CHARS:
        key = keys.chart(instrument.exchange.value, instrument.symbol, timeframe.value)
        redis.set(key, generation + value, ex=ttl_s)


def memory(redis: Redis) -> tuple[int, int]:
    """The bytes that Redis holds, and may hold at most; 0: no limit of its own."""
    told = redis.info("memory")
    return int(told["used_memory"]), int(told.get("maxmemory", 0))


class ChartCache:
    """The chart cache as a reader uses it: with Redis away every look-up is a miss, and nothing waits for it.

    After a failure Redis is left alone for `REST_S`, so that a dead server costs one time-out, not one a request.
    Of a Redis with a bound (maxmemory) charts fill no more than `SHARE`: the rest is for messages and heartbeats, which
    a full one refuses. Its memory is looked at every `LOOK_S`, and between two looks we know what we put there.
    """

    REST_S = 1.0
    LOOK_S = 2.0
    SHARE = 0.6

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis, self._ttl_s = redis, ttl_s
        self._away_until = 0.0
        self._room_bytes, self._looked_s = 0.0, -1e9

    def versions(self, instrument: Instrument) -> Versions:
        """The instrument's tokens; empty with Redis away, and nothing is kept under those."""
        return self._ask(lambda: self._versions(instrument)) or Versions()

    def _versions(self, instrument: Instrument) -> Versions:
        """They are asked for with every chart: half of that time goes into what the client does around these calls."""
        pool = self._redis.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("MGET", *_names(instrument))  # type: ignore[no-untyped-call]
            found = connection.read_response()
        except RedisError:
            found = [None]  # a connection that ended meanwhile, say: asked again as usual
        finally:
            pool.release(connection)
        return versions(self._redis, instrument) if None in found else Versions(*map(_bytes, found))

    def get(self, instrument: Instrument, timeframe: Timeframe, *, generation: bytes) -> bytes | None:
        """The cached chart of this generation, or None."""
        found = self._ask(lambda: get(self._redis, instrument, timeframe, generation=generation))
        recorded.chart_looked_up(hit=found is not None)
        return found

    def put(self, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes) -> None:
        """Keep `value` for the time to live, where there is room."""
        self._ask(lambda: self._put(instrument, timeframe, value, generation))

    def _put(self, instrument: Instrument, timeframe: Timeframe, value: bytes, generation: bytes) -> None:
        if time.monotonic() - self._looked_s >= self.LOOK_S:
            self._room_bytes, self._looked_s = self._room(), time.monotonic()
        if len(value) < self._room_bytes:
            self._room_bytes -= len(value)
            put(self._redis, instrument, timeframe, value=value, generation=generation, ttl_s=self._ttl_s)

    def _room(self) -> float:
        """The bytes that charts may still take."""
        try:
            used, limit = memory(self._redis)
        except ResponseError:  # a server that may not be asked: its owner looks after it
            return float("inf")
        return self.SHARE * limit - used if limit else float("inf")

    def _ask[T](self, question: Callable[[], T]) -> T | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            return question()
        except RedisError as error:
            self._away_until = time.monotonic() + self.REST_S
            logger.warning("chart cache away, reading the database: {}", type(error).__name__)
            return None


def _names(instrument: Instrument) -> tuple[str, str, str]:
    exchange, symbol = instrument.exchange.value, instrument.symbol
    return keys.WATCHLIST_VERSION, keys.generation(exchange, symbol), keys.live(exchange, symbol)


def _token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
