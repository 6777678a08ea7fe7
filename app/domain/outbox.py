"""The outbox's values: stretches of an instrument's 1m bars whose derived values have to be made again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from app.domain.timeframes import MINUTE_MS


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


class Amounts(NamedTuple):
    """Exact sums of consecutive bars, as columns."""

    time_ms: list[int]
    volume: list[Decimal]
    quote_volume: list[Decimal]


class Stretch(NamedTuple):
    """What one transaction derives of one instrument: a span, the marks it settles, what it leaves for the next."""

    span: Span
    marks: tuple[Mark, ...]
    rest: Span | None


def gather(marks: Sequence[Mark], *, join_ms: int, most_ms: int, instruments: int) -> list[Stretch]:
    """At most one stretch an instrument: its oldest mark and those within `join_ms` of each other around it.

    Marks come oldest first, and so do the stretches. They cover at most `most_ms` in all: the one that crosses it is
    cut and keeps a rest. Whatever is farther off, or of further instruments, waits for the next transaction.
    """
    waiting: dict[int, list[Mark]] = {}
    for mark in marks:
        waiting.setdefault(mark.instrument_id, []).append(mark)
    stretches: list[Stretch] = []
    for instrument, own in waiting.items():
        if most_ms <= 0 or len(stretches) == instruments:
            break
        near = _around(own, join_ms)
        span, rest = _cut(Span(instrument, near[0].lo_ms, max(mark.hi_ms for mark in near)), most_ms)
        stretches.append(Stretch(span, tuple(near), rest))
        most_ms -= span.hi_ms - span.lo_ms + MINUTE_MS
    return stretches


def _around(marks: list[Mark], join_ms: int) -> list[Mark]:
    """The marks joined to the first one, by their begin."""
    joined: list[Mark] = []
    hi_ms = 0
    for mark in sorted(marks, key=lambda mark: mark.lo_ms):
        if joined and mark.lo_ms > hi_ms + join_ms:
            if marks[0] in joined:
                break
            joined.clear()
        hi_ms = max(hi_ms, mark.hi_ms) if joined else mark.hi_ms
        joined.append(mark)
    return joined


def _cut(span: Span, most_ms: int) -> tuple[Span, Span | None]:
    minutes = max(1, most_ms // MINUTE_MS)
    last = span.lo_ms + (minutes - 1) * MINUTE_MS
    if last >= span.hi_ms:
        return span, None
    return span._replace(hi_ms=last), span._replace(lo_ms=last + MINUTE_MS)
