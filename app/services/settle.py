"""Settling: what follows from bars that changed: flat bars that ids prove, flats behind a revised close, roll-ups.

Bars of 1m changed, or longer ones of the exchange's own, which no roll-up that is less than verified replaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.instruments import RULES, Instrument
from app.domain.outbox import Span, joined
from app.domain.sessions import of_other_dates
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.services.ports import Catalogue, Cutoffs, keeps_all
from app.services.stores import Holes, Minutes, Outbox

HOUR_MS = 60 * MINUTE_MS
MINUTES = 20_000  # of bars a transaction derives from, so that none lasts over a second (law 9)


@dataclass(frozen=True, slots=True)
class Settle:
    """Derives bars from bars under one lock a shard; each transaction takes the marks of one UTC day."""

    engine: sa.Engine
    outbox: Outbox
    holes: Holes
    minutes: Minutes
    catalogue: Catalogue
    flat_days: int
    limit: int = 400
    cutoffs: Cutoffs = keeps_all

    def run(self, shard: int = 0, shards: int = 1) -> int:
        """Settles the oldest marks; returns how many it took, 0 where nothing waits or another is at it."""
        with self.engine.begin() as connection:
            if not self.outbox.lock(connection, shard):
                return 0
            taken = self.outbox.take(connection, "rollup", shard=shard, shards=shards, limit=self.limit)
            if not taken:
                return 0
            day = taken[0].lo_ms // DAY_MS
            now: list[Span] = []
            later: list[Span] = []
            room = MINUTES
            for span in taken:
                fits = span.lo_ms // DAY_MS == day and room > 0
                (now if fits else later).append(span)
                room -= (span.hi_ms - span.lo_ms) // MINUTE_MS + 1 if fits else 0
            self.outbox.mark(connection, "rollup", later)
            self._settle(connection, joined(now, within_ms=HOUR_MS))
            return len(now)

    def _settle(self, connection: sa.Connection, spans: list[Span]) -> None:
        wide = joined([*spans, *self._flats(connection, spans)], within_ms=HOUR_MS)
        known = self.catalogue({span.instrument_id for span in wide})
        sparse = {i for i, item in known.items() if not RULES[item.exchange].flat_bars}
        native = {i: item.calendar for i, item in known.items() if RULES[item.exchange].native_daily}
        cutoffs = self.cutoffs(connection)
        for tf in ROLLUPS:
            # A bar whose children were let go stays as it is: a late word on a minute of it is not the whole of it.
            # Where quiet minutes have no bar, it is the minutes that tell whether the children are complete.
            shorter = [cutoffs.get(child, 0) for child in Timeframe if child.ms < tf.ms]
            buckets: dict[int, set[int]] = {}
            for span in wide:
                kept_ms = max(shorter) if span.instrument_id in sparse else shorter[-1]
                starts = range(max(tf.floor(span.lo_ms), kept_ms), span.hi_ms + 1, tf.ms)
                if starts:
                    buckets.setdefault(span.instrument_id, set()).update(starts)
            self._roll_up(connection, tf, buckets, sparse, native if tf is Timeframe.D1 else {})
        self.outbox.mark(connection, "indicators", wide)
        self.outbox.mark(connection, "publish", wide)

    def _roll_up(
        self,
        connection: sa.Connection,
        tf: Timeframe,
        buckets: dict[int, set[int]],
        sparse: set[int],
        native: dict[int, str],
    ) -> None:
        """Rolls up; where quiet minutes have no bar, what is complete is looked up, and what is empty goes.

        `native` are the instruments (id → calendar) whose bar of this timeframe is the source's own. Until that is
        there it is made of its session's minutes alone: an evening that ends after midnight UTC is not of that date.
        """
        others = {
            (i, child)
            for i, calendar in native.items()
            for day in buckets.get(i, ())
            for child in of_other_dates(calendar, day)
        }
        few = {i: starts for i, starts in buckets.items() if i in sparse}
        whole = self.minutes.whole(connection, tf, [(i, start) for i, starts in few.items() for start in starts])
        self.outbox.roll_up(connection, tf, buckets, whole=whole, natives=native, others=others)
        self.outbox.clear(connection, tf, _starts(whole), others=others)
        if native:
            self.outbox.doubt_days(connection, {i: starts for i, starts in buckets.items() if i in native})

    def _flats(self, connection: sa.Connection, spans: Sequence[Span]) -> list[Span]:
        """Makes and mends the flat bars around the spans; returns those that changed."""
        known = self.catalogue({span.instrument_id for span in spans})
        numbered = [span for span in spans if span.instrument_id in known and _numbered(known[span.instrument_id])]
        if not numbered:
            return []
        lo_ms = min(span.lo_ms for span in numbered) - self.flat_days * DAY_MS
        hi_ms = max(span.hi_ms for span in numbered) + self.flat_days * DAY_MS
        made = [Span(i, t, t) for i, t in self.outbox.proven_flats(connection, numbered, lo_ms=lo_ms, hi_ms=hi_ms)]
        for span in joined(made, within_ms=MINUTE_MS):
            self.holes.cover(connection, span.instrument_id, span.lo_ms, span.hi_ms + MINUTE_MS)
        mended = self.outbox.fix_flats(connection, numbered, lo_ms=lo_ms, hi_ms=hi_ms)
        return [*made, *(Span(i, t, t) for i, t in mended)]


def _starts(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for instrument_id, start in pairs:
        found.setdefault(instrument_id, []).append(start)
    return found


def _numbered(instrument: Instrument) -> bool:
    """Whether consecutive ids prove a quiet minute, and the exchange has a flat bar for one."""
    rules = RULES[instrument.exchange]
    return rules.contiguous_ids and rules.flat_bars
