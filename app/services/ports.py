"""What services ask of clocks, sources and the cache: Protocols, so that none of them knows the other.

app/bootstrap.py hands the implementations in. What they ask of storage stands in stores.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe

Catalogue = Callable[[Iterable[int]], dict[int, Instrument]]  # instruments by id, unknown ids left out
Cutoffs = Callable[[sa.Connection], Mapping[Timeframe, int]]  # ms before which a timeframe's bars are not kept


def keeps_all(connection: sa.Connection) -> Mapping[Timeframe, int]:
    """Cutoffs where every timeframe is kept for ever."""
    return {}


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


@runtime_checkable
class PagedHistory(Protocol):
    """A History that hands out its pages as columns, which the database takes in faster."""

    def page(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> BarColumns:
        """As klines() of a History."""
        ...


@dataclass(frozen=True, slots=True)
class Trail:
    """What a committed batch leaves in the cache beside its messages."""

    batch: str  # its id, empty where nobody named it
    quotes: Mapping[str, tuple[float, int]]  # instrument key → last price and its exchange time (ms)
    facts: Mapping[str, Any]  # for those who look for the batch by its id; none of a batch without trades
    counts: Mapping[str, int]


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

    def applied(self, channel: str, messages: Sequence[Mapping[str, Any]], trail: Trail) -> None:
        """Publishes what a batch of trades changed, keeps its last prices, its trail and its counts; only hints."""
        ...
