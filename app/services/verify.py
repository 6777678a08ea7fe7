"""Verification: our closed bars against the exchange's own, which replace them where they differ (law 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.bars import Bar, State
from app.domain.history import UNEQUAL
from app.domain.instruments import RULES, Instrument
from app.domain.official import OfficialBar, OfficialBatch
from app.domain.outbox import Span, joined
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.verification import Difference, difference
from app.services.edges import edges_of
from app.services.pages import settled_ms
from app.services.ports import Catalogue, Publisher
from app.services.stores import Candles, Feeds, Holes, Ledger, Official, Outbox
from app.services.updates import MOST_BARS

LOCK = 7007
LIMIT = 1000  # bars a transaction compares
CHECKED = (Timeframe.M5, Timeframe.M15, Timeframe.H1)  # whose roll-ups the exchange's own bars check
PATIENCE_S = 120.0  # wall time an official bar waits for ours to close before it stands alone

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verify:
    """Compares and replaces; stores are modules of app/storage."""

    engine: sa.Engine
    official: Official
    candles: Candles
    feeds: Feeds
    holes: Holes
    ledger: Ledger
    outbox: Outbox
    catalogue: Catalogue
    publisher: Publisher
    grace_s: float

    def receive(self, batch: OfficialBatch) -> None:
        """Keeps what the exchange said until our bars are closed; what it took back is fetched again at once."""
        doubted: dict[str, set[tuple[int, int, int]]] = {}
        with self.engine.begin() as connection:
            self.official.put(connection, batch.bars)
            for doubt in batch.doubts:
                for lo_ms, hi_ms in self.holes.covered(connection, doubt.instrument_id):
                    lo_ms, hi_ms = max(lo_ms, doubt.lo_ms), min(doubt.hi_ms if hi_ms is None else hi_ms, doubt.hi_ms)
                    if lo_ms < hi_ms:  # what we do not claim is not made by a correction of it
                        doubted.setdefault(doubt.cause, set()).add((doubt.instrument_id, lo_ms, hi_ms))
            for cause, stretches in doubted.items():
                # Also what an open hole holds: history may be asked about that one already, before this word.
                self.holes.record_all(connection, sorted(stretches), cause, again=True)
        for cause, n in Counter(doubt.cause for doubt in batch.doubts).items():
            self.publisher.count(cause.replace(" ", "_") + "s", n)

    def run(self) -> int:
        """Compares what is closed with what the exchange said; returns how many bars it dealt with."""
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, LOCK):
                return 0
            ours = self.official.closed(connection, patience_s=PATIENCE_S, limit=LIMIT)
            theirs = self.official.get(connection, [(bar.instrument_id, bar.time_ms) for bar in ours])
            known = self.catalogue({bar.instrument_id for bar in ours})
            agreed, unequal = self._compare(ours, theirs, known)
            self.candles.verify(connection, agreed)
            self._mark(connection, agreed)
            self.official.done(connection, [*agreed, *self._settled(ours, unequal)])
        closed = {(bar.instrument_id, bar.time_ms) for bar in ours if bar.state is not State.OPEN}
        replaced = self._replace(unequal, closed)
        added = self._add()
        self._count(len(agreed), 0, added)
        return len(ours) + replaced + added + self._check_rollups()

    def _compare(
        self, ours: Iterable[Bar], theirs: Mapping[Key, OfficialBar], known: Mapping[int, Instrument]
    ) -> tuple[list[Key], list[Difference]]:
        """The keys of newly agreed bars, and the differences."""
        agreed, unequal = [], []
        for bar in ours:
            key = (bar.instrument_id, bar.time_ms)
            if bar.instrument_id not in known or key not in theirs:
                continue
            fields = RULES[known[bar.instrument_id].exchange].compared
            if bar.state is State.VERIFIED and not theirs[key].revised:
                continue  # a first word is no newer one: delivered again, say
            found = difference(bar, theirs[key].bar(), Timeframe.M1, fields)
            if found is not None:
                unequal.append(found)
            elif bar.state is not State.VERIFIED:
                agreed.append(key)
        return agreed, unequal

    @staticmethod
    def _settled(ours: Iterable[Bar], unequal: Iterable[Difference]) -> list[Key]:
        """What needs no word any more: all that was compared and does not wait to be replaced."""
        waiting = {(item.instrument_id, item.time_ms) for item in unequal}
        keys = ((bar.instrument_id, bar.time_ms) for bar in ours)
        return [key for key in keys if key not in waiting]

    def _replace(self, unequal: Sequence[Difference], closed: Collection[Key]) -> int:
        """The exchange's values take our bars' place; one we had not finished ourselves is no difference to keep."""
        if not unequal:
            return 0
        with self.engine.begin() as connection:
            # Another pass may have been faster: only what still waits for its replacement is replaced, and noted once.
            if not self.holes.exclusive(connection, LOCK):
                return 0
            waiting = self.official.get(connection, [(item.instrument_id, item.time_ms) for item in unequal])
            unequal = [item for item in unequal if (item.instrument_id, item.time_ms) in waiting]
            kept = self._claimed(connection, [item for item in unequal if (item.instrument_id, item.time_ms) in closed])
            self._store(connection, list(waiting.values()))
            for source, wanted in (("updated", True), ("stream", False)):
                chosen = [item for item in kept if waiting[item.instrument_id, item.time_ms].revised is wanted]
                self.official.note(connection, chosen, source)
        self._count(0, len(kept), 0)
        return len(unequal)

    def _claimed(self, connection: sa.Connection, unequal: Sequence[Difference]) -> list[Difference]:
        """The differences outside of known holes: inside, we knew ourselves that something was missing."""
        doubted = self.holes.doubted(connection, [(item.instrument_id, item.time_ms) for item in unequal])
        return [item for item in unequal if (item.instrument_id, item.time_ms) not in doubted]

    def _add(self) -> int:
        """Minutes the exchange has and we have not, once our feed has passed them."""
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, LOCK):
                return 0
            edges = {i: edge.hi_ms for i, edge in edges_of(self.feeds.runs(connection), grace_s=self.grace_s).items()}
            keys = self.official.absent(connection, edges, patience_s=PATIENCE_S, limit=LIMIT)
            official = list(self.official.get(connection, keys).values())
            self._store(connection, official)
        return len(official)

    def _store(self, connection: sa.Connection, official: Sequence[OfficialBar]) -> None:
        """Stores official bars; the ledger's rows come first, as in every other writer."""
        known = self.catalogue({bar.instrument_id for bar in official})
        official = [bar for bar in official if bar.instrument_id in known]
        ids: dict[int, list[tuple[int, int]]] = {}
        for bar in official:
            numbered = RULES[known[bar.instrument_id].exchange].contiguous_ids
            if numbered and bar.first_id is not None and bar.last_id is not None:
                ids.setdefault(bar.instrument_id, []).append((bar.first_id, bar.last_id + 1))
        self.ledger.add_all(connection, ids)
        for flats in (True, False):
            mine = [bar for bar in official if RULES[known[bar.instrument_id].exchange].flat_bars is flats]
            self._mark(connection, self.candles.replace(connection, [bar.bar() for bar in mine], flats=flats))
        self.official.done(connection, [(bar.instrument_id, bar.time_ms) for bar in official])

    def _check_rollups(self) -> int:
        """The exchange's own 5m, 15m and 1h bars against our verified roll-ups; returns how many."""
        checked = 0
        for tf in CHECKED:
            with self.engine.begin() as connection:
                if not self.holes.exclusive(connection, LOCK):
                    return checked
                theirs = self.official.rollups(connection, tf, limit=LIMIT)
                if not theirs:
                    continue
                bounds = {
                    "start_ms": min(bar.time_ms for bar in theirs),
                    "end_ms": max(bar.time_ms for bar in theirs) + 1,
                }
                wanted = {bar.instrument_id for bar in theirs}
                ours = {
                    (bar.instrument_id, bar.time_ms): bar
                    for bar in self.candles.read_many(connection, wanted, tf, **bounds)
                }
                known = self.catalogue(wanted)
                unequal = []
                for bar in theirs:
                    mine, instrument = ours.get((bar.instrument_id, bar.time_ms)), known.get(bar.instrument_id)
                    if mine is not None and instrument is not None:
                        found = difference(mine, bar.bar(), tf, RULES[instrument.exchange].compared)
                        unequal += [found] if found is not None else []
                self.official.note(connection, unequal, "stream")
                for item in unequal:
                    self.holes.record(connection, item.instrument_id, item.time_ms, item.time_ms + tf.ms, UNEQUAL)
                self.official.rollups_done(connection, tf, [(bar.instrument_id, bar.time_ms) for bar in theirs])
            checked += len(theirs)
            if unequal:
                self.publisher.count("rollups_unequal", len(unequal))
        return checked

    def revisions(self, instrument: Instrument, lo_ms: int, end_ms: int) -> dict[int, int]:
        """What stands in [lo, end), revisions by ms, before history is asked: a newer word may come meanwhile."""
        bounds = {"start_ms": lo_ms, "end_ms": end_ms}
        with self.engine.begin() as connection:
            stored = self.candles.read_many(connection, [instrument.id], Timeframe.M1, **bounds)
        return {bar.time_ms: bar.revision for bar in stored}

    def take(
        self,
        connection: sa.Connection,
        instrument: Instrument,
        bars: Sequence[Bar],
        *,
        lo_ms: int,
        end_ms: int,
        now_ms: int,
        before: Mapping[int, int] | None = None,
    ) -> int:
        """History's word on the minutes [lo, end) of an instrument; returns how many of our bars changed.

        `before` are the revisions (by ms) of what stood there when history was asked. Where the exchange has no flat
        bars, a bar of ours that it does not list is taken back, once the minute is
        older than its history lags behind.
        """
        rules = RULES[instrument.exchange]
        self.candles.lock(connection, instrument.id, lo_ms, end_ms)
        stored = self.candles.read_many(connection, [instrument.id], Timeframe.M1, start_ms=lo_ms, end_ms=end_ms)
        ours = {bar.time_ms: bar for bar in stored}
        if before is not None:  # a newer word came while history was asked
            newer = {t for t, bar in ours.items() if bar.state is State.VERIFIED and before.get(t, -1) != bar.revision}
            bars = [bar for bar in bars if bar.time_ms not in newer]
            ours = {t: bar for t, bar in ours.items() if t not in newer}
        theirs = {bar.time_ms: bar for bar in bars}
        gone = set() if rules.flat_bars else ours.keys() - theirs.keys()
        gone = {t for t in gone if t + MINUTE_MS <= settled_ms(instrument.exchange, now_ms)}
        # An open bar was not finished by us: the exchange finishes it, and nobody was wrong.
        both = [t for t in ours.keys() & theirs.keys() if ours[t].state is not State.OPEN]
        found = [difference(ours[t], theirs[t], Timeframe.M1, rules.compared) for t in both]
        found += [
            difference(ours[t], None, Timeframe.M1, rules.compared) for t in gone if ours[t].state is not State.OPEN
        ]
        unequal = [item for item in found if item is not None]
        agreed = [(instrument.id, t) for t in both if ours[t].state is State.CLOSED]
        agreed = [key for key in agreed if key[1] not in {item.time_ms for item in unequal}]
        known = {key[1] for key in agreed}
        changed = self.candles.replace(
            connection, [bar for bar in bars if bar.time_ms not in known], flats=rules.flat_bars
        )
        self.candles.verify(connection, agreed)
        self.candles.remove(connection, [(instrument.id, t) for t in gone])
        kept = self._claimed(connection, unequal)
        self.official.note(connection, kept, "history")
        touched = [*changed, *agreed, *((instrument.id, t) for t in gone)]
        # Charts lose what was taken back only once they are read anew: its mark is too long to be told in bars.
        self._mark(connection, touched, [Span(instrument.id, t - MOST_BARS * MINUTE_MS, t) for t in gone])
        self._count(len(agreed), len(kept), 0, removed=len(gone))
        return len(changed) + len(gone)

    def _mark(self, connection: sa.Connection, keys: Iterable[Key], spans: Iterable[Span] = ()) -> None:
        all_spans = [*(Span(i, t, t) for i, t in keys), *spans]
        self.outbox.mark(connection, "rollup", joined(all_spans, within_ms=MINUTE_MS))

    def _count(self, agreed: int, unequal: int, added: int, *, removed: int = 0) -> None:
        counts = {"verified": agreed, "unequal_bars": unequal, "missing_bars_added": added, "bars_taken_back": removed}
        for reason, n in counts.items():
            if n:
                self.publisher.count(reason, n)
