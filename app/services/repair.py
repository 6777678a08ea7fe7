"""Repair: holes are filled with the exchange's own bars, missing ids are found and counted in once bars hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import batched
from time import monotonic

import sqlalchemy as sa
from loguru import logger

from app.domain.bars import Bar
from app.domain.history import Hole
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.outbox import Span
from app.domain.sessions import ALWAYS
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.errors import RateLimited, SourceError, UnknownInstrument
from app.services.expected import Expected
from app.services.pages import PAGES, settled_ms
from app.services.ports import Catalogue, Clock, Cutoffs, History, Publisher, keeps_all
from app.services.stores import Holes, Ledger, Outbox
from app.services.verify import Verify

CHUNK = 1000  # minutes a request
REPAIR_LOCK, GAPS_LOCK = 7005, 7006
UNCLAIMED_S = 600.0
RUN_S = 15.0  # so that a task ends within 30 s, one slow answer included
GAPS = 5  # looked at in one transaction: old ones take a while to find their bars
SEARCH_S = 10.0  # of a turn of find_gaps
LOOK_AGAIN_S = 1.5
SEEN_S = 60.0  # a gap that no look found for so long was filled
ON_ITS_WAY_MS = 3_600_000  # ids missing in a minute this new may be in a batch at another worker, or in a queue
NUMBERED = [exchange.value for exchange, rules in RULES.items() if rules.contiguous_ids]


@dataclass(frozen=True, slots=True)
class Repair:
    """Fills holes; stores are modules of app/storage, `history` gives an exchange's source or None."""

    engine: sa.Engine
    holes: Holes
    verify: Verify
    outbox: Outbox
    ledger: Ledger
    catalogue: Catalogue
    expected: Expected
    history: Callable[[Instrument], History | None]
    clock: Clock
    publisher: Publisher
    grace_s: float
    cutoffs: Cutoffs = keeps_all
    budget: int = 8  # requests one run may spend
    seen: dict[tuple[int, int, int], tuple[float, float]] = field(default_factory=dict)  # gap → first and last found
    unclaimed: set[tuple[int, int, int]] = field(default_factory=set)  # gaps outside coverage: not searched each time
    forget_at: list[float] = field(default_factory=lambda: [0.0])
    place: list[int] = field(default_factory=lambda: [0, -1])  # the gap with which the last turn ended
    rest_until: dict[Exchange, float] = field(default_factory=dict)  # an exchange asked us to wait until then

    def run(self) -> int:
        """Repairs the holes that are over by the exchange's clock; returns how many it closed."""
        now_ms = self.clock.now_us() // 1000
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, REPAIR_LOCK):
                return 0
            if kept_ms := self.cutoffs(connection).get(Timeframe.M1, 0):  # nobody misses what is let go
                self.holes.let_go(connection, kept_ms)
            self.holes.bridge(connection, NUMBERED)
            resting = [exchange.value for exchange, until in self.rest_until.items() if until > monotonic()]
            due = self.holes.open_holes(connection, before_ms=now_ms - int(self.grace_s * 1000), resting=resting)
        known = self.catalogue({hole.instrument_id for hole in due})
        closed = self._needless(due, known) + self._out_of_reach(due, known, now_ms)
        spent, end = 0, monotonic() + RUN_S
        unknown: set[int] = set()
        for group in _merged([hole for hole in due if hole.instrument_id in known]):
            instrument = known[group[0].instrument_id]
            if spent >= self.budget or monotonic() > end:
                break
            if self.rest_until.get(instrument.exchange, 0.0) > monotonic():
                continue  # one exchange's rest is no other's
            if instrument.id in unknown:
                continue  # a thousand holes of it would spend all that the exchange may be asked
            spent += 1
            try:
                closed += self._repair(instrument, group, now_ms)
            except UnknownInstrument as error:
                unknown.add(instrument.id)
                self._put_off(instrument, group, error)
        return closed

    def _needless(self, due: list[Hole], known: Mapping[int, Instrument]) -> int:
        """Closes, and takes off the list, holes in hours in which no bar is expected; returns how many.

        A connection that begins before the sessions are known doubts a market that is closed.
        """
        needless = []
        with self.engine.begin() as connection:
            for hole in due:
                instrument = known.get(hole.instrument_id)
                if instrument is None or instrument.calendar == ALWAYS:
                    continue
                if not self.expected.windows(connection, instrument, hole.lo_ms, hole.hi_ms):
                    needless.append(hole)
            self.holes.repaired(connection, {hole.id: hole.hi_ms for hole in needless})
        for hole in needless:
            due.remove(hole)
        return len(needless)

    def _out_of_reach(self, due: list[Hole], known: Mapping[int, Instrument], now_ms: int) -> int:
        """Gives up, and takes off the list, holes older than all that their source has; returns how many."""
        lost = []
        for hole in due:
            instrument = known.get(hole.instrument_id)
            if instrument is not None and hole.hi_ms <= PAGES[instrument.exchange].oldest_ms(Timeframe.M1, now_ms):
                lost.append(hole)
        if lost:
            with self.engine.begin() as connection:
                self.holes.given_up(connection, [hole.id for hole in lost], "older than anything the source has")
            self.publisher.count("holes_out_of_reach", len(lost))
        for hole in lost:
            due.remove(hole)
        return len(lost)

    def _repair(self, instrument: Instrument, group: list[Hole], now_ms: int) -> int:
        lo_ms = min(hole.lo_ms for hole in group)
        end_ms = min(max(hole.hi_ms for hole in group), lo_ms + CHUNK * MINUTE_MS)
        source = self.history(instrument)
        try:
            if source is None:
                raise SourceError(f"{instrument.exchange.value} has no history source yet")
            before = self.verify.revisions(instrument, lo_ms, end_ms)
            bars = source.klines(instrument, Timeframe.M1, lo_ms, end_ms, CHUNK)
        except SourceError as error:  # one instrument's trouble must not stop the others
            if isinstance(error, RateLimited):
                self.rest_until[instrument.exchange] = monotonic() + error.retry_after_s
            self._put_off(instrument, group, error)
            return 0
        return self._store(instrument, group, bars, before, lo_ms=lo_ms, end_ms=end_ms, now_ms=now_ms)

    def _put_off(self, instrument: Instrument, group: list[Hole], error: Exception) -> None:
        logger.warning("repair of {} waits: {}", instrument.key, error)
        with self.engine.begin() as connection:
            self.holes.failed(connection, [hole.id for hole in group], str(error))

    def _store(
        self,
        instrument: Instrument,
        group: list[Hole],
        bars: list[Bar],
        before: Mapping[int, int],
        *,
        lo_ms: int,
        end_ms: int,
        now_ms: int,
    ) -> int:
        rules = RULES[instrument.exchange]
        whole = rules.flat_bars and len({bar.time_ms for bar in bars}) == (end_ms - lo_ms) // MINUTE_MS
        settled = whole or end_ms <= settled_ms(instrument.exchange, now_ms)
        ids, closed = [hole.id for hole in group], 0
        with self.engine.begin() as connection:
            for hole in group:  # the ledger's row before bars, as in every other writer
                over = settled and hole.hi_ms <= end_ms
                if over and hole.first_id is not None and hole.last_id is not None:
                    # The exchange's own bars hold these ids, or it has no bar there.
                    self.ledger.add(connection, instrument.id, hole.first_id, hole.last_id + 1)
            changed = self.verify.take(
                connection, instrument, bars, lo_ms=lo_ms, end_ms=end_ms, now_ms=now_ms, before=before
            )
            if settled:
                closed = self.holes.repaired(connection, dict.fromkeys(ids, end_ms))
                self.holes.shrink(connection, ids, end_ms)  # longer ones, and what grew while history was asked
                if not rules.flat_bars or not changed:  # what was open for the hole's sake may close now
                    self.outbox.mark(connection, "rollup", [Span(instrument.id, lo_ms, end_ms - MINUTE_MS)])
            else:
                reason = "the exchange has not listed every minute yet"
                self.holes.failed(connection, ids, reason)
        if changed:
            self.publisher.count("repaired_bars", changed)
        return closed

    def find_gaps(self) -> int:
        """Missing ids inside coverage: those whose minutes are all verified count as in, the rest become holes.

        Workers beside each other commit in any order: what two looks in turn find is missing, what one finds may be on
        its way.
        """
        if monotonic() > self.forget_at[0]:
            self.unclaimed.clear()
            self.forget_at[0] = monotonic() + UNCLAIMED_S
        with self.engine.begin() as connection:
            gaps = self.ledger.gaps(connection, after=(self.place[0], self.place[1]))
            held = self.holes.held_ids(connection)
        self.place[:] = gaps[-1][:2] if len(gaps) == 1000 else (0, -1)
        self._see(gaps, monotonic())
        # What an open hole holds comes last: its repair counts it in.
        gaps.sort(key=lambda gap: any(a <= gap[1] and gap[2] - 1 <= z for a, z in held.get(gap[0], ())))
        recorded, deadline = 0, monotonic() + SEARCH_S
        stretches: dict[int, list[tuple[int, int | None]]] = {}
        for some in batched(gaps, GAPS):
            if monotonic() > deadline:
                break
            with self.engine.begin() as connection:
                if not self.holes.exclusive(connection, GAPS_LOCK):
                    return recorded
                for instrument_id, first, end in some:
                    if instrument_id not in stretches:
                        stretches[instrument_id] = self.holes.covered(connection, instrument_id)
                    recorded += self._gap(connection, instrument_id, first, end, stretches[instrument_id])
        return recorded

    def _see(self, gaps: Iterable[tuple[int, int, int]], now_s: float) -> None:
        self.seen.update({gap: (self.seen.get(gap, (now_s,))[0], now_s) for gap in gaps})
        for gap in [gap for gap, (_, last_s) in self.seen.items() if now_s - last_s > SEEN_S]:
            del self.seen[gap]

    def _is_new(self, time_ms: int) -> bool:
        """Whether trades of this minute may still be on their way."""
        try:
            return time_ms > self.clock.now_us() // 1000 - ON_ITS_WAY_MS
        except SourceError:
            return False  # a market that does not answer sends nothing either

    def _gap(
        self, connection: sa.Connection, instrument_id: int, first: int, end: int, held: list[tuple[int, int | None]]
    ) -> int:
        gap = (instrument_id, first, end)
        if gap in self.unclaimed:
            return 0
        before, after = self.holes.around_gap(connection, instrument_id, first, end)
        if after is None:
            return 0
        if monotonic() - self.seen.get(gap, (0.0, 0.0))[0] < LOOK_AGAIN_S and self._is_new(after):
            return 0
        if before is None:  # the bar before the gap is the exchange's, which names no ids
            before = max((lo for lo, _ in held if lo <= after), default=after)
        if not any(lo <= before and (hi is None or after < hi) for lo, hi in held):
            self.unclaimed.add(gap)  # between two imports, say: nothing is claimed there
            return 0
        if self.holes.unverified(connection, instrument_id, before, after + MINUTE_MS) == 0:
            self.ledger.add(connection, instrument_id, first, end)
            return 0
        ids = (first, end - 1)
        if self.holes.record(connection, instrument_id, before, after + MINUTE_MS, "missing trades", ids=ids):
            self.publisher.count("missing_trades", end - first)
            return 1
        return 0


def _merged(holes: list[Hole]) -> list[list[Hole]]:
    """The holes grouped where those of one instrument overlap or touch; groups in the order of their first hole."""
    place = {hole.id: rank for rank, hole in enumerate(holes)}
    groups: list[list[Hole]] = []
    end_ms = 0
    for hole in sorted(holes, key=lambda item: (item.instrument_id, item.lo_ms)):
        if groups and groups[-1][0].instrument_id == hole.instrument_id and hole.lo_ms <= end_ms:
            groups[-1].append(hole)
            end_ms = max(end_ms, hole.hi_ms)
        else:
            groups.append([hole])
            end_ms = hole.hi_ms
    return sorted(groups, key=lambda group: min(place[hole.id] for hole in group))
