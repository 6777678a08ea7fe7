"""What was received and not handed over yet: bounded, in order, the oldest dropped first.

Everything here runs in the event loop; no locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from app.domain.trades import Mark, Trade
from streamers.stats import Stats

TELL_AGAIN = 300  # batches: were the first one lost on its way, nobody would know what the run receives

type Subscribed = tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Run:
    """One connection as the workers see it; batch numbers are given when a batch is handed over."""

    id: int
    exchange: str
    shard: str
    since_us: int
    n: int = 0
    upto_us: int = 0  # claimed by what was handed over
    news: Subscribed | None = ()  # the subscription, until the next chunk takes it along
    told: Subscribed = ()  # the subscription as it was handed over last
    told_n: int = 0
    lost: bool = False  # something was dropped: leave a number out, so that a hole is recorded

    def mark(self, upto_us: int, *, over: bool, news: Subscribed | None = None) -> Mark:
        """The mark of the next batch; `news` is the subscription where it tells of a new one."""
        self.n += 2 if self.lost else 1
        self.lost = False
        self.upto_us = max(self.upto_us, upto_us)
        if news is None and self.n - self.told_n >= TELL_AGAIN:
            news = self.told
        if news is not None:
            self.told, self.told_n = news, self.n
        return Mark(
            self.id,
            self.n,
            self.upto_us,
            self.exchange,
            shard=self.shard,
            since_us=self.since_us,
            subscribed=news,
            over=over,
        )


@dataclass(slots=True)
class Chunk:
    """Trades of one run, and the exchange time up to which everything of it was received with them.

    It takes the run's news along: told with an older chunk that still waits, a symbol would be left before its last
    trades, and the minutes of these would be in nobody's care.
    """

    run: Run
    trades: list[Trade] = field(default_factory=list)
    upto_us: int = 0
    over: bool = False
    news: Subscribed | None = None
    lost: bool = False  # something of the run was dropped just before it, or out of it


class Buffer:
    """A bounded queue of chunks; neighbours of a run are joined up to `most` trades."""

    def __init__(self, stats: Stats, *, limit: int, most: int) -> None:
        self._stats, self._limit, self._most = stats, limit, most
        self._chunks: deque[Chunk] = deque()
        self._filled = asyncio.Event()
        self._closed = False
        self.trades = 0

    def put(self, chunk: Chunk) -> None:
        """Append the chunk; over the limit the oldest trades go, counted as `buffer_full`, their ids stay a hole."""
        last = self._chunks[-1] if self._chunks else None
        chunk.news, chunk.run.news = chunk.run.news, None
        self.trades += len(chunk.trades)
        if (
            last is not None
            and last.run is chunk.run
            and not last.over
            and (last.news is None or chunk.news is None)  # what was added and left meanwhile is told as both
            and len(last.trades) + len(chunk.trades) <= self._most
        ):
            last.trades += chunk.trades
            last.upto_us, last.over = max(last.upto_us, chunk.upto_us), chunk.over
            last.news = last.news if chunk.news is None else chunk.news
        else:
            self._chunks.append(chunk)
        if self.trades > self._limit:
            self._drop()
        self._filled.set()

    async def get(self) -> Chunk | None:
        """The oldest chunk; None when the buffer is closed and empty."""
        while not self._chunks:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        chunk = self._chunks.popleft()
        self.trades -= len(chunk.trades)
        return chunk

    def close(self) -> None:
        """Say that nothing follows."""
        self._closed = True
        self._filled.set()

    def _drop(self) -> None:
        kept: deque[Chunk] = deque()
        lost: set[Run] = set()  # of which nothing that is kept came since
        while self._chunks and self.trades > self._limit:
            chunk = self._chunks.popleft()
            if chunk.trades or chunk.lost:
                lost.add(chunk.run)
            if chunk.trades:
                self.trades -= len(chunk.trades)
                self._stats.count("buffer_full", len(chunk.trades))
                chunk.trades = []
            if chunk.over or chunk.news is not None:  # the end of a run and what it receives are told in any case
                chunk.lost = chunk.run in lost
                lost.discard(chunk.run)
                kept.append(chunk)
        for chunk in self._chunks:
            if chunk.run in lost:
                chunk.lost = True
                lost.discard(chunk.run)
        for run in lost:
            run.lost = True
        self._chunks.extendleft(reversed(kept))
