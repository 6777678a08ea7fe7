"""A source behind the limits all processes share: each request is paid for first, and its outcome is told to all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import Forbidden, RateLimited, SourceAway, SourceError, UnknownInstrument


class Source(Protocol):
    """What answers klines."""

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]: ...


@runtime_checkable
class Paged(Protocol):
    """What hands out a page as columns."""

    def page(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> BarColumns: ...


class Limits(Protocol):
    """app.cache.limits.Limiter."""

    def spend(self, source: str, weight: int, *, per_minute: int) -> None: ...
    def used(self, source: str, weight: int) -> None: ...
    def rest(self, source: str, seconds: float) -> None: ...
    def failed(self, source: str) -> None: ...
    def answered(self, source: str) -> None: ...


type Weight = Callable[[Timeframe, int, int, int], int]  # of klines: timeframe, start_ms, end_ms, limit


def one_request(tf: Timeframe, start_ms: int, end_ms: int, limit: int) -> int:
    """The weight of klines where an exchange counts requests."""
    return 1


def no_count() -> int:
    """The exchange's own count where it tells none."""
    return 0


def uncounted(reason: str) -> None:
    """Counts nothing."""


@dataclass(frozen=True, slots=True)
class Limited[S: Source]:
    """`source` as app.services.ports.History; `ask` pays for any other request of it.

    `used` tells the exchange's own count of the minute after a request, 0 where it tells none; `count` takes what
    went wrong under a reason (law 6); `turn` is held during a request, a lock where threads share the source.
    """

    source: S
    limits: Limits
    name: str
    per_minute: int
    weight: Weight = one_request
    used: Callable[[], int] = no_count
    count: Callable[[str], None] = uncounted
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """As the source answers; raises RateLimited also where our own budget is used up or the source rests."""
        weight = self.weight(timeframe, start_ms, end_ms, limit)
        return self.ask(lambda source: source.klines(instrument, timeframe, start_ms, end_ms, limit), weight)

    def page(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> BarColumns:
        """As klines(), as columns; the source's own where it has them."""
        source: object = self.source
        if not isinstance(source, Paged):
            return BarColumns.of(instrument.id, self.klines(instrument, timeframe, start_ms, end_ms, limit))
        weight = self.weight(timeframe, start_ms, end_ms, limit)
        return self.ask(lambda _: source.page(instrument, timeframe, start_ms, end_ms, limit), weight)

    def ask[T](self, call: Callable[[S], T], weight: int = 1) -> T:
        """What `call` answers, once `weight` could be spent; its errors go on and are told to all processes."""
        if weight:
            self.limits.spend(self.name, weight, per_minute=self.per_minute)
        try:
            with self.turn:
                answer = call(self.source)
        except RateLimited as error:
            self.count(f"{self.name}_rate_limited")
            self.limits.rest(self.name, error.retry_after_s)
            self.limits.answered(self.name)
            raise
        except SourceAway:
            self.count(f"{self.name}_away")
            self.limits.failed(self.name)
            raise
        except (Forbidden, UnknownInstrument, SourceError):  # a refusal is an answer
            self.count(f"{self.name}_refused")
            self.limits.answered(self.name)
            raise
        self.limits.answered(self.name)
        if (used := self.used()) > 0:
            self.limits.used(self.name, used)
        return answer


@dataclass(frozen=True, slots=True)
class Absent:
    """A source that cannot be used, and why."""

    reason: str

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """Raises Forbidden with the reason."""
        raise Forbidden(self.reason)
