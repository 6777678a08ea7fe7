"""The newest bid and ask and the halts of each symbol, told to Redis a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson
from loguru import logger
from redis import Redis, RedisError

from app.cache import keys
from app.domain.conditions import halted
from app.errors import Unavailable
from app.wire.alpaca_values import Quote, Status

EVERY_S = 0.25


class Store(Protocol):
    """Where quotes and halts are kept; may block, raises Unavailable."""

    def halts(self) -> list[str]:
        """The instruments that stand still, as told before."""

    def tell(self, books: Mapping[str, bytes], halts: Mapping[str, bytes], over: Sequence[str]) -> None:
        """Keep quotes and halts by instrument key; `over` are halts that have ended."""


class RedisStore:
    """The hashes that pages read (app.cache.keys: BOOK, HALTS)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def halts(self) -> list[str]:
        """The instruments that stand still, as told before."""
        try:
            return [name.decode() if isinstance(name, bytes) else name for name in self._redis.hkeys(keys.HALTS)]
        except RedisError as error:
            raise Unavailable(f"Redis does not answer: {error}") from error

    def tell(self, books: Mapping[str, bytes], halts: Mapping[str, bytes], over: Sequence[str]) -> None:
        """One request for all."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                if books:
                    pipe.hset(keys.BOOK, items=_flat(books))
                if halts:
                    pipe.hset(keys.HALTS, items=_flat(halts))
                if over:
                    pipe.hdel(keys.HALTS, *over)
                pipe.execute()
        except RedisError as error:
            raise Unavailable(f"Redis does not answer: {error}") from error


class Board:
    """Takes what the stream says; only the newest of each instrument is kept until it is told."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._quotes: dict[str, Quote] = {}
        self._halts: dict[str, bytes] = {}
        self._over: set[str] = set()
        self._halted: dict[str, int] = {}  # and since when, exchange µs

    def quote(self, key: str, quote: Quote) -> None:
        """The newest bid and ask of an instrument."""
        self._quotes[key] = quote

    def status(self, key: str, status: Status) -> None:
        """A trading status: a halt is shown until trading resumes."""
        standing = halted(status.code)
        if standing:
            time_ms, reason = status.time_us // 1000, status.reason or status.message
            self._halted[key] = status.time_us
            self._over.discard(key)
            self._halts[key] = orjson.dumps({"code": status.code, "reason": reason, "time": time_ms})
        elif standing is False:
            self._resume(key)

    def traded(self, key: str, time_us: int) -> None:
        """A print that sets the price: what stood still before trades again, also where its resumption was missed."""
        if self._halted and time_us > self._halted.get(key, time_us):
            self._resume(key)

    async def run(self) -> None:
        """Tells until it is cancelled; with Redis away it tries again."""
        away = begun = False
        while True:
            await asyncio.sleep(EVERY_S)
            books, halts, over = self._quotes, self._halts, self._over
            if begun and not (books or halts or over):
                continue
            self._quotes, self._halts, self._over = {}, {}, set()
            try:
                if not begun:
                    told = await asyncio.to_thread(self._store.halts)
                    self._halted = dict.fromkeys(told, 0) | self._halted
                    begun = True
                encoded = {key: _book(quote) for key, quote in books.items()}
                await asyncio.to_thread(self._store.tell, encoded, halts, sorted(over))
                away = False
            except Unavailable as error:
                if not away:
                    logger.warning("quotes are not told: {}", error)
                away = True
                self._quotes = {**books, **self._quotes}
                self._halts = {key: text for key, text in halts.items() if key not in self._over} | self._halts
                self._over |= over - self._halts.keys()

    def _resume(self, key: str) -> None:
        self._halted.pop(key, None)
        self._halts.pop(key, None)
        self._over.add(key)


def _book(quote: Quote) -> bytes:
    return orjson.dumps(
        {
            "bid": quote.bid,
            "bid_size": quote.bid_size,
            "ask": quote.ask,
            "ask_size": quote.ask_size,
            "time": quote.time_us // 1000,
        }
    )


def _flat(fields: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for field in fields.items() for part in field]
