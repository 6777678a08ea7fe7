"""Repair: holes are filled with the exchange's own bars, missing ids are found and counted in once bars hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import sqlalchemy as sa
from loguru import logger

from app.domain.bars import Bar
from app.domain.instruments import RULES, Instrument
from app.domain.outbox import Span
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.errors import SourceError
from app.services.ports import Clock, History, Publisher

CHUNK = 1000  # minutes a request
REPAIR_LOCK, GAPS_LOCK = 7005, 7006
UNCLAIMED_S = 600.0
PATIENCE_MS = 10 * MINUTE_MS  # so long after its end a minute the exchange does not list is taken as not there


@dataclass(frozen=True, slots=True)
class Repair:
    """Fills holes; stores are modules of app/storage, `history` gives an exchange's source or None."""

    engine: sa.Engine
    holes: Any
    candles: Any
    outbox: Any
    ledger: Any
    catalogue: Callable[[Iterable[int]], dict[int, Instrument]]
    history: Callable[[Instrument], History | None]
    clock: Clock
    publisher: Publisher
    grace_s: float
    budget: int = 8  # requests one run may spend
    unclaimed: set[tuple[int, int, int]] = field(default_factory=set)  # gaps outside coverage: not searched each time
    forget_at: list[float] = field(default_factory=lambda: [0.0])

    def run(self) -> int:
        """Repairs the holes that are over by the exchange's clock; returns how many it closed."""
        now_ms = self.clock.now_us() // 1000
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, REPAIR_LOCK):
                return 0
            found = self.holes.open_holes(connection)
        due = [hole for hole in found if hole.hi_ms + self.grace_s * 1000 <= now_ms]
        known = self.catalogue({hole.instrument_id for hole in due})
        closed, spent = 0, 0
        for group in _merged(due):
            instrument = known.get(group[0].instrument_id)
            if instrument is None or spent >= self.budget:
                continue
            spent += 1
            closed += self._repair(instrument, group, now_ms)
        return closed

    def _repair(self, instrument: Instrument, group: list[Any], now_ms: int) -> int:
        ids = [hole.id for hole in group]
        lo_ms, hi_ms = min(hole.lo_ms for hole in group), max(hole.hi_ms for hole in group)
        end_ms = min(hi_ms, lo_ms + CHUNK * MINUTE_MS)
        source = self.history(instrument)
        try:
            if source is None:
                raise SourceError(f"{instrument.exchange.value} has no history source yet")
            bars = source.klines(instrument, Timeframe.M1, lo_ms, end_ms, CHUNK)
        except SourceError as error:
            logger.warning("repair of {} waits: {}", instrument.key, error)
            with self.engine.begin() as connection:
                self.holes.failed(connection, ids, str(error))
            return 0
        return self._store(instrument, ids, bars, lo_ms=lo_ms, end_ms=end_ms, hi_ms=hi_ms, now_ms=now_ms)

    def _store(
        self,
        instrument: Instrument,
        ids: list[int],
        bars: list[Bar],
        *,
        lo_ms: int,
        end_ms: int,
        hi_ms: int,
        now_ms: int,
    ) -> int:
        whole = len({bar.time_ms for bar in bars}) == (end_ms - lo_ms) // MINUTE_MS
        settled = whole or end_ms + PATIENCE_MS <= now_ms
        with self.engine.begin() as connection:
            changed = self.candles.replace(connection, bars, flats=RULES[instrument.exchange].flat_bars)
            if changed:
                times = [time_ms for _, time_ms in changed]
                self.outbox.mark(connection, "rollup", [Span(instrument.id, min(times), max(times))])
            if not settled:
                self.holes.failed(connection, ids, "the exchange has not listed every minute yet")
            elif end_ms < hi_ms:
                self.holes.shrink(connection, ids, end_ms)
            else:
                self.holes.repaired(connection, ids)
        if changed:
            self.publisher.count("repaired_bars", len(changed))
        return len(ids) if settled and end_ms >= hi_ms else 0

    def find_gaps(self) -> int:
        """Missing ids inside coverage: those whose minutes are all verified count as in, the rest become holes."""
        recorded = 0
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, GAPS_LOCK):
                return 0
            if monotonic() > self.forget_at[0]:
                self.unclaimed.clear()
                self.forget_at[0] = monotonic() + UNCLAIMED_S
            stretches: dict[int, list[tuple[int, int | None]]] = {}
            for instrument_id, first, end in self.ledger.gaps(connection):
                if instrument_id not in stretches:
                    stretches[instrument_id] = self.holes.covered(connection, instrument_id)
                recorded += self._gap(connection, instrument_id, first, end, stretches[instrument_id])
        return recorded

    def _gap(
        self, connection: sa.Connection, instrument_id: int, first: int, end: int, held: list[tuple[int, int | None]]
    ) -> int:
        gap = (instrument_id, first, end)
        if gap in self.unclaimed:
            return 0
        before, after = self.holes.around_gap(connection, instrument_id, first, end)
        if before is None or after is None:
            return 0
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


def _merged(holes: list[Any]) -> list[list[Any]]:
    """The holes grouped where those of one instrument overlap or touch."""
    groups: list[list[Any]] = []
    end_ms = 0
    for hole in sorted(holes, key=lambda item: (item.instrument_id, item.lo_ms)):
        if groups and groups[-1][0].instrument_id == hole.instrument_id and hole.lo_ms <= end_ms:
            groups[-1].append(hole)
            end_ms = max(end_ms, hole.hi_ms)
        else:
            groups.append([hole])
            end_ms = hole.hi_ms
    return groups
