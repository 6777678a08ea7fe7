"""The outbox's values: stretches of an instrument's 1m bars whose derived values have to be made again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe

PIECE_MS = 2 * DAY_MS  # of minutes, all of which one transaction settles: about as many as come in a page
LONG_PIECE_MS = 13 * DAY_MS  # of longer bars: about as much as a transaction settles at once


class Span(NamedTuple):
    """Bars of one instrument from `lo_ms` to `hi_ms`, both inclusive."""

    instrument_id: int
    lo_ms: int
    hi_ms: int


class Due(NamedTuple):
    """Open bars of an instrument in [lo, hi) ms are over once nobody wrote them for `idle_s`."""

    instrument_id: int
    lo_ms: int
    hi_ms: int
    idle_s: float


class Mark(NamedTuple):
    """A row of the outbox: the 1m stretch [lo_ms, hi_ms] of an instrument was touched."""

    id: int
    instrument_id: int
    lo_ms: int
    hi_ms: int


def joined(spans: Iterable[Span], *, within_ms: int) -> list[Span]:
    """The spans, sorted, with those of one instrument joined that overlap or lie at most `within_ms` apart."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last is not None and last.instrument_id == span.instrument_id and span.lo_ms <= last.hi_ms + within_ms:
            found[-1] = last._replace(hi_ms=max(last.hi_ms, span.hi_ms))
        else:
            found.append(span)
    return found


def following(instrument_id: int, tf: Timeframe, times_ms: Sequence[int], *, flats: bool) -> tuple[str, list[Span]]:
    """The stage that changed bars of `tf` ask for, and over which spans.

    Of an exchange's own longer bars still longer ones are made, but where quiet minutes have no bar: there only its
    minutes tell what is complete (`flats`: they have one).
    """
    if tf is Timeframe.D1 or not (tf is Timeframe.M1 or flats):
        return "indicators", [Span(instrument_id, min(times_ms), max(times_ms))]
    length_ms = PIECE_MS if tf is Timeframe.M1 else LONG_PIECE_MS
    pieces: dict[int, Span] = {}
    for time_ms in sorted(times_ms):
        first = pieces.setdefault(time_ms // length_ms, Span(instrument_id, time_ms, time_ms))
        pieces[time_ms // length_ms] = first._replace(hi_ms=time_ms)
    return "rollup", list(pieces.values())


class Amounts(NamedTuple):
    """Exact sums of consecutive bars, as columns."""

    time_ms: list[int]
    volume: list[Decimal]
    quote_volume: list[Decimal]


class Stretch(NamedTuple):
    """What one transaction derives of one instrument: a span, the marks it settles, what it leaves for the next."""

    span: Span
    marks: tuple[Mark, ...]
    rest: Span | None = None

    def cut(self, next_ms: int) -> Stretch:
        """The stretch up to the minute before `next_ms`; what follows is its rest."""
        return self._replace(span=self.span._replace(hi_ms=next_ms - MINUTE_MS), rest=self.span._replace(lo_ms=next_ms))


def gather(marks: Sequence[Mark], *, within_ms: int, instruments: int) -> list[Stretch]:
    """At most one stretch an instrument: its oldest mark and those joined to it, none more than `within_ms` off.

    Marks come oldest first, and so do the stretches. Marks farther off or of further instruments wait.
    """
    waiting: dict[int, list[Mark]] = {}
    for mark in marks:
        waiting.setdefault(mark.instrument_id, []).append(mark)
    stretches = []
    for own in list(waiting.values())[:instruments]:
        first = own[0]
        for span in joined((Span(*mark[1:]) for mark in own), within_ms=within_ms):
            if span.lo_ms <= first.lo_ms <= span.hi_ms:
                near = tuple(mark for mark in own if span.lo_ms <= mark.lo_ms <= span.hi_ms)
                stretches.append(Stretch(span, near))
    return stretches
