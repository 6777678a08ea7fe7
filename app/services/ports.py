"""What services ask of storage, of the cache and of sources: Protocols, so that none of them knows the other.

The modules of app/storage and app/cache are the implementations; app/bootstrap.py hands them in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar, Merged, PartialBar
from app.domain.feeds import Run, Skipped, Stream
from app.domain.history import Backfill, Hole
from app.domain.instruments import Instrument
from app.domain.official import OfficialBar
from app.domain.outbox import Due, Span
from app.domain.sessions import Session
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark
from app.domain.verification import Difference

Ranges = Sequence[tuple[int, int]]
Pairs = list[tuple[int, int]]
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


class Ledger(Protocol):
    """app.storage.ledger."""

    def take(self, connection: sa.Connection, wanted: Mapping[Stream, Ranges], /) -> dict[Stream, Pairs]: ...
    def extend(self, connection: sa.Connection, rest: Mapping[Stream, Ranges], /) -> None: ...
    def add(self, connection: sa.Connection, instrument_id: int, first: int, end: int, /) -> None: ...
    def add_all(self, connection: sa.Connection, ranges: Mapping[int, Ranges], /) -> None: ...
    def gaps(
        self, connection: sa.Connection, /, *, after: tuple[int, int] = ..., limit: int = 1000
    ) -> list[tuple[int, int, int]]: ...


class Candles(Protocol):
    """app.storage.candles."""

    def merge(self, connection: sa.Connection, parts: Sequence[PartialBar], /) -> Merged: ...
    def replace(
        self, connection: sa.Connection, bars: Sequence[Bar], /, *, tf: Timeframe = ..., flats: bool = ...
    ) -> Pairs: ...
    def read_many(
        self, connection: sa.Connection, instruments: Iterable[int], tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[Bar]: ...
    def lock(self, connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int, /) -> None: ...
    def verify(self, connection: sa.Connection, keys: Pairs, /) -> None: ...
    def remove(self, connection: sa.Connection, keys: Pairs, /) -> None: ...


class Bulk(Protocol):
    """app.storage.bulk."""

    def replace(
        self, connection: sa.Connection, bars: Sequence[Bar] | BarColumns, /, *, tf: Timeframe = ..., flats: bool = ...
    ) -> Pairs: ...


class Official(Protocol):
    """app.storage.official."""

    def put(self, connection: sa.Connection, bars: Iterable[OfficialBar], /) -> None: ...
    def closed(self, connection: sa.Connection, /, *, patience_s: float, limit: int) -> list[Bar]: ...
    def absent(
        self, connection: sa.Connection, edges: Mapping[int, int], /, *, patience_s: float, limit: int
    ) -> Pairs: ...
    def get(self, connection: sa.Connection, keys: Pairs, /) -> dict[tuple[int, int], OfficialBar]: ...
    def done(self, connection: sa.Connection, keys: Pairs, /) -> None: ...
    def rollups(self, connection: sa.Connection, tf: Timeframe, /, *, limit: int) -> list[OfficialBar]: ...
    def rollups_done(self, connection: sa.Connection, tf: Timeframe, keys: Pairs, /) -> None: ...
    def note(self, connection: sa.Connection, differences: Iterable[Difference], source: str, /) -> None: ...
    def unverified(
        self,
        connection: sa.Connection,
        /,
        *,
        lo_ms: int,
        hi_ms: int,
        quiet_s: float,
        resting: Iterable[int],
        limit: int,
    ) -> list[tuple[int, int, int]]: ...
    def unchecked(
        self,
        connection: sa.Connection,
        exchanges: Iterable[str],
        /,
        *,
        every_s: float,
        resting: Iterable[int],
        limit: int,
    ) -> list[tuple[int, int, int]]: ...
    def checked(self, connection: sa.Connection, instrument_id: int, until_ms: int, /) -> None: ...


class Sessions(Protocol):
    """app.storage.sessions."""

    def read(self, connection: sa.Connection, calendar: str, lo_ms: int, hi_ms: int, /) -> list[Session]: ...
    def last(self, connection: sa.Connection, calendar: str, /) -> int | None: ...


class IndicatorRows(Protocol):
    """app.storage.indicators, as far as charts are told of it."""

    def read_many(
        self, connection: sa.Connection, instruments: Iterable[int], tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[tuple[int, dict[str, int | float | None]]]: ...


class Feeds(Protocol):
    """app.storage.feeds."""

    def open_run(self, connection: sa.Connection, mark: Mark, /) -> bool: ...
    def subscribed(self, connection: sa.Connection, run: int, /) -> dict[int, int]: ...
    def record(
        self, connection: sa.Connection, mark: Mark, /, *, accepted: int, known: int, refused: int, hi_ms: int | None
    ) -> bool: ...
    def fold(self, connection: sa.Connection, /, *, wait_s: float) -> list[Skipped]: ...
    def runs(self, connection: sa.Connection, /, *, also: Sequence[int] = ()) -> list[Run]: ...
    def end(self, connection: sa.Connection, run: int, /) -> None: ...


class Minutes(Protocol):
    """app.storage.closing."""

    def oldest_open(self, connection: sa.Connection, instruments: Iterable[int], /, *, from_ms: int) -> int | None: ...
    def close(self, connection: sa.Connection, due: Sequence[Due], /, *, lo_ms: int) -> int: ...
    def drop_unpriced(self, connection: sa.Connection, edges: Mapping[int, int], /, *, lo_ms: int) -> int: ...
    def settle(self, connection: sa.Connection, edges: Mapping[int, int], /) -> int: ...
    def ripen(self, connection: sa.Connection, /, *, everything: bool) -> int: ...
    def whole(
        self, connection: sa.Connection, tf: Timeframe, buckets: Iterable[tuple[int, int]], /
    ) -> set[tuple[int, int]]: ...
    def trailing_flats(
        self, connection: sa.Connection, instruments: Sequence[tuple[int, int, int]], /, *, lo_ms: int, hi_ms: int
    ) -> int: ...
    def open_left(self, connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int, /) -> int: ...


class Outbox(Protocol):
    """app.storage.outbox."""

    def lock(self, connection: sa.Connection, shard: int, /) -> bool: ...
    def take(
        self, connection: sa.Connection, stage: str, /, *, shard: int = 0, shards: int = 1, limit: int = ...
    ) -> list[Span]: ...
    def mark(self, connection: sa.Connection, stage: str, stretches: Sequence[Span], /) -> None: ...
    def proven_flats(
        self, connection: sa.Connection, stretches: Sequence[Span], /, *, lo_ms: int, hi_ms: int
    ) -> Pairs: ...
    def fix_flats(
        self, connection: sa.Connection, stretches: Sequence[Span], /, *, lo_ms: int, hi_ms: int
    ) -> Pairs: ...
    def roll_up(
        self,
        connection: sa.Connection,
        tf: Timeframe,
        buckets: Mapping[int, Iterable[int]],
        /,
        *,
        whole: Collection[tuple[int, int]] = ...,
        natives: Collection[int] = ...,
    ) -> int: ...
    def doubt_days(self, connection: sa.Connection, days: Mapping[int, Iterable[int]], /) -> None: ...
    def clear(self, connection: sa.Connection, tf: Timeframe, buckets: Mapping[int, Iterable[int]], /) -> None: ...


class Holes(Protocol):
    """app.storage.holes."""

    def cover(
        self, connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int | None, /, *, tf: Timeframe = ...
    ) -> None: ...
    def covered(
        self, connection: sa.Connection, instrument_id: int, /, *, tf: Timeframe = ...
    ) -> list[tuple[int, int | None]]: ...
    def live_since(self, connection: sa.Connection, instruments: Iterable[int], /) -> dict[int, int]: ...
    def cover_live(self, connection: sa.Connection, since: Mapping[int, int], /) -> None: ...
    def last_known(self, connection: sa.Connection, before: Mapping[int, int], /) -> dict[int, int]: ...
    def extend_all(
        self, connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str, /
    ) -> int: ...
    def standing(self, connection: sa.Connection, /, *, still_s: float) -> Pairs: ...
    def doubted(self, connection: sa.Connection, minutes: Iterable[tuple[int, int]], /) -> set[tuple[int, int]]: ...
    def missing_minutes(
        self, connection: sa.Connection, instruments: Iterable[int], lo_ms: int, hi_ms: int, /
    ) -> list[tuple[int, int, int]]: ...
    def empty_windows(
        self, connection: sa.Connection, instrument_id: int, windows: Sequence[tuple[int, int]], /
    ) -> list[tuple[int, int, int]]: ...
    def record_all(
        self, connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str, /
    ) -> None: ...
    def record(
        self,
        connection: sa.Connection,
        instrument_id: int,
        lo_ms: int,
        hi_ms: int,
        cause: str,
        /,
        *,
        ids: tuple[int, int] | None = None,
    ) -> bool: ...
    def open_holes(
        self, connection: sa.Connection, /, *, due_only: bool = True, before_ms: int | None = None, limit: int = 200
    ) -> list[Hole]: ...
    def repaired(self, connection: sa.Connection, ids: Sequence[int], /) -> None: ...
    def given_up(self, connection: sa.Connection, ids: Sequence[int], reason: str, /) -> None: ...
    def shrink(self, connection: sa.Connection, ids: Sequence[int], lo_ms: int, /) -> None: ...
    def failed(self, connection: sa.Connection, ids: Sequence[int], error: str, /) -> None: ...
    def let_go(self, connection: sa.Connection, before_ms: int, /) -> None: ...
    def bridge(self, connection: sa.Connection, exchanges: Sequence[str], /) -> int: ...
    def around_gap(
        self, connection: sa.Connection, instrument_id: int, first: int, end: int, /
    ) -> tuple[int | None, int | None]: ...
    def unverified(self, connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int, /) -> int: ...
    def held_ids(self, connection: sa.Connection, /) -> dict[int, list[tuple[int, int]]]: ...
    def exclusive(self, connection: sa.Connection, key: int, /) -> bool: ...


class Backfills(Protocol):
    """app.storage.backfills."""

    def create(
        self,
        connection: sa.Connection,
        instrument_id: int,
        tf: Timeframe,
        lo_ms: int,
        hi_ms: int,
        /,
        *,
        asked_by: str = ...,
    ) -> int: ...
    def create_all(
        self,
        connection: sa.Connection,
        tf: Timeframe,
        stretches: Sequence[tuple[int, int, int]],
        /,
        *,
        asked_by: str = ...,
    ) -> None: ...
    def get(self, connection: sa.Connection, backfill_id: int, /) -> Backfill | None: ...
    def claim(self, connection: sa.Connection, /, *, most: int, stale_s: float, retry_s: float) -> list[int]: ...
    def begin(self, connection: sa.Connection, backfill_id: int, /, *, lease_s: float) -> Backfill | None: ...
    def advance(
        self,
        connection: sa.Connection,
        item: Backfill,
        /,
        *,
        cursor_ms: int,
        bars: int,
        lease_s: float,
        empty_to_ms: int | None = ...,
    ) -> Backfill | None: ...
    def leave(
        self,
        connection: sa.Connection,
        item: Backfill,
        /,
        *,
        state: str,
        error: str | None = ...,
        wait_s: float | None = ...,
    ) -> None: ...
    def cancel(self, connection: sa.Connection, backfill_id: int, /) -> bool: ...
    def empties(self, connection: sa.Connection, instrument_id: int, tf: Timeframe, /) -> Pairs: ...
    def unverified(
        self, connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int, /, *, flats: bool
    ) -> Pairs: ...
    def count(self, connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, hi_ms: int, /) -> int: ...
    def any_before(self, connection: sa.Connection, instrument_id: int, tf: Timeframe, lo_ms: int, /) -> bool: ...
