"""Ingest: one trade batch becomes ledger entries and bars in one transaction, then a hint to the charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from app.domain import dedupe
from app.domain.bars import UNPRICED, Bar, Merged, State, partial_bars
from app.domain.feeds import Stream
from app.domain.history import LATE
from app.domain.instruments import RULES, Exchange
from app.domain.outbox import Span, joined
from app.domain.trades import Mark, TradeBatch
from app.services.clock import wall_us
from app.services.runs import RunOpener
from app.services.stores import Candles, Feeds, Holes, Ledger, Outbox
from app.services.updates import Announcer

HOUR_MS = 3_600_000
# The ledger of a run without the exchange's numbers is kept for a day after its last batch (app.storage.ledger.forget).
# Whether an older batch was applied is not known for sure then: the exchange's own bars take its place. Four hours are
# left for clocks that differ.
OLDEST_S = 20 * 3600
LOST = "batch lost"
MOST_TRACED = 50  # instruments that a batch's trail names


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one delivery of a batch did, in rows of trades (an aggregate is one row)."""

    accepted: int
    known: int
    refused: int
    bars: int
    verified: int  # minutes left alone since the exchange's own bar stands there


@dataclass(frozen=True, slots=True)
class Ingest:
    """The service; `outbox` and the stores are modules of app/storage."""

    engine: sa.Engine
    ledger: Ledger
    candles: Candles
    feeds: Feeds
    outbox: Outbox
    holes: Holes
    runs: RunOpener
    announcer: Announcer
    wall_us: Callable[[], int] = wall_us

    def apply(self, batch: TradeBatch) -> Outcome:
        """Applies the batch exactly once, whatever was delivered before; safe beside itself.

        Order inside the transaction: ledger rows by stream, then bars by (instrument, time), then marks. Raises
        sqlalchemy's OperationalError where the database asks for the whole transaction again.
        """
        distinct = dedupe.distinct(batch)
        mark = batch.mark
        too_late = len(distinct.batch) if self._too_late(batch) else 0
        with self.engine.begin() as connection:
            if mark is not None:
                self.runs.open(connection, mark)
            if too_late:
                self.holes.record_all(connection, [(i, lo, hi + 60_000) for i, lo, hi in _spans(batch)], LOST)
            wanted = distinct.batch.take(np.arange(0)) if too_late else distinct.batch
            fresh, known, partial = self._take(connection, wanted, mark)
            parts = partial_bars(fresh)
            merged = self.candles.merge(connection, parts)
            self._follow(connection, merged.bars, merged.verified)
            refused = distinct.partial + partial
            if mark is not None:
                self._note(connection, mark, batch, len(fresh), distinct.repeated + known, refused + too_late)
        self._tell(batch, merged, len(fresh), distinct.repeated + known, refused=refused, too_late=too_late)
        refused += too_late
        return Outcome(len(fresh), distinct.repeated + known, refused, len(merged.bars), len(merged.verified))

    def _too_late(self, batch: TradeBatch) -> bool:
        """Whether nothing says any more if the batch was applied before."""
        mark = batch.mark
        if mark is None or not batch.sent_us or RULES[Exchange(mark.exchange)].contiguous_ids:
            return False
        return self.wall_us() - batch.sent_us > OLDEST_S * 1_000_000

    def _take(self, connection: sa.Connection, batch: TradeBatch, mark: Mark | None) -> tuple[TradeBatch, int, int]:
        run = 0 if mark is None or RULES[Exchange(mark.exchange)].contiguous_ids else mark.run
        wanted = {Stream(i, run): ranges for i, ranges in dedupe.id_ranges(batch).items()}
        late = self.ledger.take(connection, wanted)
        if not late:
            return batch, 0, 0
        keep = ~np.isin(batch.instrument_id, [stream.instrument_id for stream in late])
        known = partial = 0
        for stream, ranges in late.items():
            rows, covered, cut = dedupe.unknown(batch, stream.instrument_id, ranges)
            keep |= rows
            known, partial = known + covered, partial + cut
        fresh = batch.take(keep)
        rest = {Stream(i, run): ranges for i, ranges in dedupe.id_ranges(fresh).items()}
        self.ledger.extend(connection, {stream: rest[stream] for stream in late if stream in rest})
        return fresh, known, partial

    def _follow(self, connection: sa.Connection, bars: Sequence[Bar], verified: Sequence[tuple[int, int]]) -> None:
        """Late trades: a closed bar that changed is derived again; a verified one is checked again.

        Those near each other are one hole: history is asked about them at once, and an import has thousands. One that
        is open already does not do: history may be asked about it at this moment, before it has these trades.
        """
        late: dict[tuple[int, int], list[int]] = {}
        for bar in bars:
            if bar.state is State.CLOSED:
                late.setdefault((bar.instrument_id, bar.time_ms // HOUR_MS), []).append(bar.time_ms)
        self.outbox.mark(connection, "rollup", [Span(key[0], min(times), max(times)) for key, times in late.items()])
        again = joined((Span(i, time_ms, time_ms) for i, time_ms in verified), within_ms=HOUR_MS)
        self.holes.record_all(connection, [(i, lo, hi + 60_000) for i, lo, hi in again], LATE, again=True)

    def _note(
        self,
        connection: sa.Connection,
        mark: Mark,
        batch: TradeBatch,
        accepted: int,
        known: int,
        refused: int,
    ) -> None:
        hi_ms = int(batch.time_us.max()) // 60_000_000 * 60_000 if len(batch) else None
        self.feeds.record(connection, mark, accepted=accepted, known=known, refused=refused, hi_ms=hi_ms)
        if mark.kind == "import":
            for instrument_id, lo, hi in _spans(batch):
                self.holes.cover(connection, instrument_id, lo, hi + 60_000)

    def _tell(
        self, batch: TradeBatch, merged: Merged, accepted: int, known: int, *, refused: int, too_late: int
    ) -> None:
        """Tells charts, counts, and leaves a trail of the batch; one without trades does none of it."""
        if not len(batch):
            return
        bars = [bar for bar in merged.bars if bar.open_time < UNPRICED]
        counts = {"trades": accepted, "known": known, "partial": refused, "late_on_verified": len(merged.verified)}
        counts["too_late"] = too_late
        ids = {bar.instrument_id for bar in merged.bars} | {instrument_id for instrument_id, _ in merged.verified}
        facts = {
            "sent_us": batch.sent_us, "last_us": int(batch.time_us.max()), "trades": len(batch), "accepted": accepted,
            "known": known, "refused": refused + too_late, "instruments": list(ids)[:MOST_TRACED],
        }  # fmt: skip
        told = {name: n for name, n in counts.items() if n}
        upto_us = max(int(batch.time_us.max()), batch.mark.upto_us if batch.mark is not None else 0)
        self.announcer.applied(bars, batch=batch.id, upto_ms=upto_us // 1000, facts=facts, counts=told)


def _spans(batch: TradeBatch) -> list[tuple[int, int, int]]:
    """(instrument id, first minute, last minute) in ms of the batch's trades."""
    minutes = batch.time_us // 60_000_000 * 60_000
    spans = []
    for instrument_id in np.unique(batch.instrument_id).tolist():
        mine = minutes[batch.instrument_id == instrument_id]
        spans.append((instrument_id, int(mine.min()), int(mine.max())))
    return spans
