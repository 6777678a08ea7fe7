"""Hands chunks to the broker, in order, from a thread: a broker that blocks never stops a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Protocol

from loguru import logger

from app.domain.batching import batches_of
from app.domain.summaries import batch_id
from app.domain.trades import Mark, Trade, TradeBatch
from app.errors import Unavailable, WireError
from streamers.backoff import delays
from streamers.buffer import Buffer, Chunk
from streamers.stats import Stats


class Queue(Protocol):
    """Where batches go (app.cache.trade_queue)."""

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Hand the batch to the workers of `shard`; raises Unavailable."""


class Sender:
    """Empties the buffer into the queue; with the broker away it tries the same batch again and again."""

    def __init__(
        self, queue: Queue, buffer: Buffer, stats: Stats, *, shards: int, most: int, random: Random | None = None
    ) -> None:
        self._queue, self._buffer, self._stats = queue, buffer, stats
        self._shards, self._most = shards, most
        self._random = random or Random()
        self._thread = ThreadPoolExecutor(1, "publish")
        self.away = False

    async def run(self) -> None:
        """Sends until the buffer is closed and empty."""
        try:
            while (chunk := await self._buffer.get()) is not None:
                for batch, shard in self._messages(chunk):
                    await self._deliver(batch, shard)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _messages(self, chunk: Chunk) -> Iterator[tuple[TradeBatch, int]]:
        """The chunk as batches by symbol shard, numbered; the last claims the chunk's time, and has its news."""
        parts = [(batch, shard) for shard in range(self._shards) for batch in self._batches(chunk.trades, shard)]
        parts = parts or [(TradeBatch.of(()), 0)]
        telling = len(parts) if chunk.run.n else 1  # a run begins with what it receives
        chunk.run.lost |= chunk.lost
        for place, (batch, shard) in enumerate(parts, 1):
            last = place == len(parts)
            news = chunk.news if place == telling else None
            mark = chunk.run.mark(chunk.upto_us if last else 0, over=chunk.over and last, news=news)
            yield _numbered(batch, mark), shard

    def _batches(self, trades: list[Trade], shard: int) -> list[TradeBatch]:
        mine = trades if self._shards == 1 else [t for t in trades if t.instrument_id % self._shards == shard]
        try:
            return list(batches_of(mine, self._most))
        except WireError:
            fitting = [trade for trade in mine if _fits(trade)]
            self._stats.count("number_too_big", len(mine) - len(fitting))
            return list(batches_of(fitting, self._most))

    async def _deliver(self, batch: TradeBatch, shard: int) -> None:
        with logger.contextualize(batch=batch.id):
            await self._send(batch, shard)
            logger.debug("batch sent", trades=len(batch), shard=shard)

    async def _send(self, batch: TradeBatch, shard: int) -> None:
        loop = asyncio.get_running_loop()
        waits = delays(self._random, first_s=0.2, cap_s=5.0)
        while True:
            try:
                await loop.run_in_executor(self._thread, self._queue.send, batch, shard)
            except Unavailable as error:
                if not self.away:
                    logger.warning("broker away, keeping trades: {}", error)
                self.away = True
                await asyncio.sleep(next(waits))
            else:
                break
        if self.away:
            self.away = False
            logger.info("broker is back, {} trades were waiting", self._buffer.trades + len(batch))
        self._stats.batches += 1
        self._stats.sent_trades += len(batch)


def _numbered(batch: TradeBatch, mark: Mark) -> TradeBatch:
    return replace(batch, mark=mark, id=batch_id(mark.run, mark.n), sent_us=time.time_ns() // 1000)


def _fits(trade: Trade) -> bool:
    try:
        TradeBatch.of([trade])
    except WireError:
        return False
    return True
