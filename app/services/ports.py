"""What services ask of storage, of the cache and of sources: Protocols, so that none of them knows the other.

The modules of app/storage and app/cache are the implementations; app/bootstrap.py hands them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from app.domain.bars import Bar, PartialBar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark

Ranges = Sequence[tuple[int, int]]


class Clock(Protocol):
    """Exchange time."""

    def now_us(self) -> int:
        """The exchange's time in µs."""
        ...


class History(Protocol):
    """An exchange's history over REST."""

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """At most `limit` closed bars of [start, end), oldest first; raises SourceError or RateLimited."""
        ...


class Publisher(Protocol):
    """The way out: pub/sub, quotes, the charts' generation; a hint that may be lost, never the truth."""

    def send(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Publishes messages; raises where the cache is away."""
        ...

    def hint(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Publishes messages, or passes over a cache that is away."""
        ...

    def quote(self, quotes: Mapping[str, tuple[float, int]]) -> None:
        """Keeps the last price and time (ms) of instrument keys."""
        ...

    def bump(self, instruments: Iterable[Instrument]) -> None:
        """Says that stored bars or indicators of the instruments changed."""
        ...

    def count(self, reason: str, n: int = 1) -> None:
        """Counts what was dropped, refused, repaired or late (law 6)."""
        ...


class StreamKey(NamedTuple):
    """A numbered stream of trades."""

    instrument_id: int
    run: int


class Ledger(Protocol):
    """app.storage.ledger."""

    def take(self, connection: sa.Connection, wanted: Mapping[Any, Ranges]) -> dict[Any, list[tuple[int, int]]]: ...
    def extend(self, connection: sa.Connection, rest: Mapping[Any, Ranges]) -> None: ...


class MergeStore(Protocol):
    """The merge of app.storage.candles."""

    def merge(self, connection: sa.Connection, parts: Sequence[PartialBar]) -> Any: ...


class FeedStore(Protocol):
    """app.storage.feeds."""

    def open_run(self, connection: sa.Connection, mark: Mark) -> bool: ...
    def record(
        self, connection: sa.Connection, mark: Mark, *, accepted: int, known: int, refused: int, hi_ms: int | None
    ) -> bool: ...
