"""Indicators follow their bars: the marks of the outbox become stored values, in one short transaction at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

import numpy as np
import sqlalchemy as sa

from app.domain import indicators
from app.domain.indicators import MEMORY_BARS, BarColumns, IndicatorColumns
from app.domain.outbox import Amounts, Mark, Span, Stretch, gather
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe

MARKS = 5_000  # read at once
INSTRUMENTS = (12, 48)  # derived in the first transaction of a run, and at most in any
BARS = 800  # of 1m for each of those, shared by all; a longer stretch goes on in the next transaction
SHORT_S, LONG_S = 0.2, 0.5  # a transaction shorter than this has the next one take twice as much, a longer one half
RUN_S = 15.0  # so that a task ends well within 30 s


class IndicatorStore(Protocol):
    """What app.storage.indicators offers."""

    def lock(self, connection: sa.Connection, shard: int, /) -> bool: ...
    def marks(self, connection: sa.Connection, /, *, shard: int, shards: int, limit: int) -> list[Mark]: ...
    def settle(
        self, connection: sa.Connection, /, *, done: Sequence[Mark], rest: Sequence[Span], publish: Sequence[Span]
    ) -> None: ...
    def extents(
        self, connection: sa.Connection, tf: Timeframe, instruments: Sequence[int], /, *, from_ms: int
    ) -> dict[int, tuple[int, int]]: ...
    def following(self, connection: sa.Connection, tf: Timeframe, span: Span, /, *, bars: int) -> int | None: ...
    def bars(self, connection: sa.Connection, tf: Timeframe, spans: Sequence[Span], /) -> dict[int, BarColumns]: ...
    def amounts(self, connection: sa.Connection, tf: Timeframe, spans: Sequence[Span], /) -> dict[int, Amounts]: ...
    def sums(
        self, connection: sa.Connection, tf: Timeframe, spans: Sequence[Span], /
    ) -> dict[int, tuple[Decimal, Decimal]]: ...
    def write(self, connection: sa.Connection, tf: Timeframe, rows: Sequence[IndicatorColumns], /) -> int: ...


type Latest = Mapping[tuple[int, Timeframe], Mapping[str, int | float | None]]


class Derived(NamedTuple):
    """What a run did: marks settled, and whether more wait."""

    marks: int
    more: bool


class _Window(NamedTuple):
    """Bars to compute over; the values of those from index `first` on are wanted."""

    bars: BarColumns
    first: int

    @property
    def wanted(self) -> list[int]:
        times: list[int] = self.bars.time_ms[self.first :].tolist()
        return times


@dataclass(frozen=True, slots=True)
class Derive:
    """Makes the indicators of touched bars; `keep` receives the newest values of a series after the commit."""

    engine: sa.Engine
    store: IndicatorStore
    keep: Callable[[Latest], None]
    shards: int = 1

    def run(self, shard: int) -> Derived:
        """Settles the shard's marks for at most RUN_S seconds; nothing is done where another is at it."""
        marks, size, end = 0, INSTRUMENTS[0], time.monotonic() + RUN_S
        while True:
            begin = time.monotonic()
            step, latest = self._transaction(shard, size)
            now = time.monotonic()
            if latest:
                self.keep(latest)
            marks += step.marks
            if not step.more or now >= end:
                return Derived(marks, step.more)
            size = _paced(size, now - begin)

    def _transaction(self, shard: int, size: int) -> tuple[Derived, Latest]:
        """The marks are read before the bars, so a mark that comes later has its own turn."""
        with self.engine.begin() as connection:
            if not self.store.lock(connection, shard):
                return Derived(0, False), {}
            marks = self.store.marks(connection, shard=shard, shards=self.shards, limit=MARKS)
            gathered = gather(marks, within_ms=MEMORY_BARS * MINUTE_MS, instruments=size)
            stretches = self._within(connection, gathered, bars=size * BARS)
            if not stretches:
                return Derived(0, False), {}
            latest: dict[tuple[int, Timeframe], Mapping[str, int | float | None]] = {}
            ends = {stretch.span.instrument_id: stretch.span.hi_ms for stretch in stretches}
            for tf in Timeframe:
                for columns, newest in self._timeframe(connection, tf, stretches):
                    written = int(columns.time_ms[-1])
                    if tf is Timeframe.M1:
                        ends[columns.instrument_id] = max(ends[columns.instrument_id], written)
                    if written >= newest:
                        latest[columns.instrument_id, tf] = columns.last()
            done = [mark for stretch in stretches for mark in stretch.marks]
            rest = [stretch.rest for stretch in stretches if stretch.rest]
            publish = [each.span._replace(hi_ms=ends[each.span.instrument_id]) for each in stretches]
            self.store.settle(connection, done=done, rest=rest, publish=publish)
        return Derived(len(done), bool(rest) or len(done) < len(marks) or len(marks) == MARKS), latest

    def _within(self, connection: sa.Connection, stretches: Sequence[Stretch], *, bars: int) -> list[Stretch]:
        """The stretches that a transaction can bear: the one with too many bars is cut, those after it wait."""
        taken: list[Stretch] = []
        left = bars
        for stretch in stretches:
            if left <= 0:
                break
            minutes = (stretch.span.hi_ms - stretch.span.lo_ms) // MINUTE_MS + 1
            if minutes > left:  # of time, not yet of bars
                ends = [self.store.following(connection, tf, stretch.span, bars=left) for tf in Timeframe]
                next_ms = min((end for end in ends if end is not None), default=None)
                stretch = stretch if next_ms is None else stretch.cut(next_ms)
            taken.append(stretch)
            left -= minutes
        return taken

    def _timeframe(
        self, connection: sa.Connection, tf: Timeframe, stretches: Sequence[Stretch]
    ) -> list[tuple[IndicatorColumns, int]]:
        """Computes and stores one timeframe of all stretches; each series with the time of its newest bar."""
        extents = self.store.extents(
            connection,
            tf,
            [each.span.instrument_id for each in stretches],
            from_ms=tf.floor(min(each.span.lo_ms for each in stretches)),
        )
        windows = self._windows(connection, tf, stretches, extents)
        if not windows:
            return []
        vwaps = self._vwaps(connection, tf, windows)
        made = [indicators.together(each.bars, vwaps[key], instrument_id=key) for key, each in windows.items()]
        self.store.write(connection, tf, made)
        return [(columns, extents[columns.instrument_id][1]) for columns in made]

    def _windows(
        self,
        connection: sa.Connection,
        tf: Timeframe,
        stretches: Sequence[Stretch],
        extents: Mapping[int, tuple[int, int]],
    ) -> dict[int, _Window]:
        """Each series' bars from its warm-up to the end of its reach, read ever wider until they suffice."""
        found: dict[int, _Window] = {}
        waiting = {each.span.instrument_id: each for each in stretches if each.span.instrument_id in extents}
        reach_ms = MEMORY_BARS * tf.ms
        while waiting:
            spans = [_widened(each, tf, reach_ms, extents[key]) for key, each in waiting.items()]
            read = self.store.bars(connection, tf, spans)
            for span in spans:
                key, (first_ms, newest_ms) = span.instrument_id, extents[span.instrument_id]
                stretch = waiting[key]
                before, after = span.lo_ms <= first_ms, span.hi_ms >= newest_ms or stretch.rest is not None
                bars = read.get(key)
                window = _window(bars, stretch, tf, whole=(before, after)) if bars is not None else None
                if window is not None or (bars is None and before and after):
                    del waiting[key]
                if window is not None and len(window.bars) > window.first:
                    found[key] = window
            reach_ms *= 4
        return found

    def _vwaps(
        self, connection: sa.Connection, tf: Timeframe, windows: Mapping[int, _Window]
    ) -> dict[int, indicators.Floats]:
        spans = [Span(key, each.wanted[0], each.wanted[-1]) for key, each in windows.items()]
        before = [span._replace(lo_ms=_day(span.lo_ms), hi_ms=span.lo_ms - 1) for span in spans]
        carried = self.store.sums(connection, tf, [span for span in before if span.lo_ms <= span.hi_ms])
        amounts = self.store.amounts(connection, tf, spans)
        return {
            key: _aligned(amounts[key], each.wanted, carried.get(key, (Decimal(0), Decimal(0))))
            for key, each in windows.items()
        }


def _paced(size: int, taken_s: float) -> int:
    """How many instruments the next transaction takes: law 9 wants none over a second, on a busy machine too."""
    if taken_s > LONG_S:
        return max(1, size // 2)
    return min(INSTRUMENTS[1], size * 2) if taken_s < SHORT_S else size


def _widened(stretch: Stretch, tf: Timeframe, reach_ms: int, extent: tuple[int, int]) -> Span:
    """The stretch's bars with `reach_ms` on both sides, inside the series; a part with a rest looks only back."""
    span = stretch.span
    end = tf.floor(span.hi_ms)
    if stretch.rest is None:
        end = min(max(end + reach_ms, _day(span.hi_ms) + DAY_MS - tf.ms), max(extent[1], end))
    return Span(span.instrument_id, max(tf.floor(span.lo_ms) - reach_ms, extent[0]), end)


def _window(bars: BarColumns, stretch: Stretch, tf: Timeframe, *, whole: tuple[bool, bool]) -> _Window | None:
    """The window of a stretch among the bars read; None where they do not reach far enough.

    `whole` says for either side whether the series ends there.
    """
    at = int(np.searchsorted(bars.time_ms, tf.floor(stretch.span.lo_ms)))
    last = int(np.searchsorted(bars.time_ms, tf.floor(stretch.span.hi_ms), side="right")) - 1
    start = indicators.warm_up_start(bars.close, at, whole=whole[0])
    end: int | None = last
    if stretch.rest is None:
        end = indicators.reach_end(bars.close, last, whole=whole[1])
    if start is None or end is None:
        return None
    if stretch.rest is None:
        day_end = _day(stretch.span.hi_ms) + DAY_MS
        end = max(end, int(np.searchsorted(bars.time_ms, day_end)) - 1)
    return _Window(bars.part(start, end + 1), at - start)


def _aligned(amounts: Amounts, wanted: list[int], carried: tuple[Decimal, Decimal]) -> indicators.Floats:
    """The VWAP of the wanted bars; one that vanished between two reads gets none, its change has a mark of its own."""
    values = indicators.vwap(*amounts, carried=carried)
    if amounts.time_ms == wanted:
        return values
    known = dict(zip(amounts.time_ms, values.tolist(), strict=True))
    return np.array([known.get(time, np.nan) for time in wanted])


def _day(time_ms: int) -> int:
    return time_ms - time_ms % DAY_MS
