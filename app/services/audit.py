"""An audit: any stretch of stored bars against the exchange's own, chunk by chunk, on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.bars import Bar, State
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import Timeframe
from app.domain.verification import Difference, difference
from app.errors import RateLimited, SourceError
from app.services.ports import Clock, Cutoffs, History, keeps_all
from app.services.stores import Candles
from app.services.verify import Verify

CHUNK = 1000  # bars a request
WAIT_MOST_S = 60.0


class Page(NamedTuple):
    """What one request of an audit found: bars either side has, and those on which both disagree."""

    end_ms: int
    compared: int
    open: int  # bars of ours that are not closed yet, and so not compared
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Audit:
    """Compares; `candles` is app.storage.candles."""

    engine: sa.Engine
    candles: Candles
    verify: Verify
    history: Callable[[Instrument], History | None]
    clock: Clock
    cutoffs: Cutoffs = keeps_all

    def pages(
        self, instrument: Instrument, tf: Timeframe, lo_ms: int, hi_ms: int, *, repair: bool = False
    ) -> Iterator[Page]:
        """The stretch [lo, hi) in pages, oldest first; `repair` puts the exchange's values in place (1m only).

        What is not kept any longer is passed over. Waits where a rate limit asks for it; raises SourceError and
        UnknownInstrument in the exchange's words.
        """
        source = self.history(instrument)
        if source is None:
            raise SourceError(f"{instrument.exchange.value} has no history to compare with")
        with self.engine.begin() as connection:
            lo_ms = max(lo_ms, self.cutoffs(connection).get(tf, 0))
        for start_ms in range(lo_ms, hi_ms, CHUNK * tf.ms):
            end_ms = min(start_ms + CHUNK * tf.ms, hi_ms)
            bounds = {"lo_ms": start_ms, "end_ms": end_ms}
            before = self.verify.revisions(instrument, **bounds) if repair and tf is Timeframe.M1 else None
            theirs = _patiently(source, instrument, tf, start_ms, end_ms)
            with self.engine.begin() as connection:
                ours = self.candles.read_many(connection, [instrument.id], tf, start_ms=start_ms, end_ms=end_ms)
                if before is not None:
                    now_ms = self.clock.now_us() // 1000
                    self.verify.take(connection, instrument, theirs, **bounds, now_ms=now_ms, before=before)
            yield _page(ours, theirs, tf, RULES[instrument.exchange].compared, end_ms)


def _page(ours: list[Bar], theirs: list[Bar], tf: Timeframe, fields: tuple[str, ...], end_ms: int) -> Page:
    unfinished = {bar.time_ms for bar in ours if bar.state is State.OPEN}
    mine = {bar.time_ms: bar for bar in ours if bar.time_ms not in unfinished}
    other = {bar.time_ms: bar for bar in theirs if bar.time_ms not in unfinished}
    times = sorted(mine.keys() | other.keys())
    found = [difference(mine.get(t), other.get(t), tf, fields) for t in times]
    return Page(end_ms, len(times), len(unfinished), [item for item in found if item is not None])


def _patiently(source: History, instrument: Instrument, tf: Timeframe, start_ms: int, end_ms: int) -> list[Bar]:
    while True:
        try:
            return source.klines(instrument, tf, start_ms, end_ms, CHUNK)
        except RateLimited as error:
            time.sleep(min(WAIT_MOST_S, max(0.1, error.retry_after_s)))
