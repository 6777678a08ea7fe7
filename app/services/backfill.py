"""Backfill: history comes as the exchange's own bars, chunk by chunk, resumable at any point."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from loguru import logger

from app.domain.bars import Bar
from app.domain.history import Backfill as Request
from app.domain.instruments import RULES, Instrument
from app.domain.outbox import Span
from app.domain.timeframes import Timeframe
from app.errors import BadRange, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.services.ports import Backfills, Candles, Catalogue, Clock, History, Holes, Outbox, Publisher

CHUNK = 1000
SLICE_S = 20.0  # a task works so long, then hands on


@dataclass(frozen=True, slots=True)
class Backfill:
    """Fetches what was asked for; stores are modules of app/storage."""

    engine: sa.Engine
    backfills: Backfills
    candles: Candles
    holes: Holes
    outbox: Outbox
    catalogue: Catalogue
    history: Callable[[Instrument], History | None]
    clock: Clock
    publisher: Publisher

    def request(self, instrument: Instrument, tf: Timeframe, start_ms: int, end_ms: int | None) -> int:
        """Asks for [start, end), by default up to now; returns the backfill's id; raises BadRange."""
        now_ms = tf.floor(self.clock.now_us() // 1000)
        lo_ms, hi_ms = tf.floor(start_ms), min(tf.floor(now_ms if end_ms is None else end_ms), now_ms)
        if end_ms is not None and end_ms <= start_ms:
            raise BadRange("the range is empty or reversed: --end must come after --start")
        if hi_ms <= lo_ms:
            raise BadRange(
                f"the range holds no finished {tf.value} bar: it must begin before the exchange's present time"
            )
        with self.engine.begin() as connection:
            return int(self.backfills.create(connection, instrument.id, tf, lo_ms, hi_ms))

    def run(self, backfill_id: int) -> bool:
        """Works on the backfill for some seconds; True where more is left to do."""
        deadline = time.monotonic() + SLICE_S
        while time.monotonic() < deadline:
            with self.engine.begin() as connection:
                item = self.backfills.get(connection, backfill_id)
            if item is None or item.state not in {"waiting", "running"}:
                return False
            if not self._chunk(item):
                return False
        return True

    def _chunk(self, item: Request) -> bool:
        instrument = self.catalogue([item.instrument_id]).get(item.instrument_id)
        source = None if instrument is None else self.history(instrument)
        if instrument is None or source is None:
            return self._fail(item, "no history source for this instrument")
        end_ms = min(item.cursor_ms + CHUNK * item.timeframe.ms, item.hi_ms)
        try:
            if self._stored(item, end_ms):
                return self._store(item, instrument, [], end_ms, held=(end_ms - item.cursor_ms) // item.timeframe.ms)
            bars = source.klines(instrument, item.timeframe, item.cursor_ms, end_ms, CHUNK)
        except RateLimited as error:
            logger.warning("backfill {} waits {:.0f} s: {}", item.id, error.retry_after_s, error)
            time.sleep(min(error.retry_after_s, SLICE_S / 2))
            return True
        except SourceAway as error:
            return self._later(item, str(error))
        except (SourceError, UnknownInstrument) as error:
            return self._fail(item, str(error))
        return self._store(item, instrument, bars, end_ms)

    def _stored(self, item: Request, end_ms: int) -> bool:
        if item.timeframe is not Timeframe.M1:
            return False
        with self.engine.begin() as connection:
            return bool(self.holes.unverified(connection, item.instrument_id, item.cursor_ms, end_ms) == 0)

    def _store(self, item: Request, instrument: Instrument, bars: list[Bar], end_ms: int, *, held: int = 0) -> bool:
        """One transaction a chunk; the row is locked, so that two workers on one backfill do no harm.

        `held`: so many bars of the chunk were there, verified, and were not asked for again.
        """
        done = end_ms >= item.hi_ms
        with self.engine.begin() as connection:
            now = self.backfills.get(connection, item.id, lock=True)
            if now is None or now.cursor_ms != item.cursor_ms or now.state not in {"waiting", "running"}:
                return True  # another worker was faster, or it was cancelled: look again
            flats = RULES[instrument.exchange].flat_bars
            changed = self.candles.replace(connection, bars, tf=item.timeframe, flats=flats)
            self.holes.cover(connection, instrument.id, item.cursor_ms, end_ms, tf=item.timeframe)
            if changed:
                span = Span(instrument.id, min(t for _, t in changed), max(t for _, t in changed))
                stage = "rollup" if item.timeframe is Timeframe.M1 else "indicators"
                self.outbox.mark(connection, stage, [span])
            state = "done" if done else "running"
            self.backfills.advance(connection, item, cursor_ms=end_ms, bars=len(bars) + held, state=state)
        return not done

    def _later(self, item: Request, reason: str) -> bool:
        """It waits again; the sweep of upkeep tries it after a while."""
        with self.engine.begin() as connection:
            self.backfills.advance(connection, item, cursor_ms=item.cursor_ms, bars=0, state="waiting", error=reason)
        logger.warning("backfill {} is tried again later: {}", item.id, reason)
        return False

    def _fail(self, item: Request, reason: str) -> bool:
        with self.engine.begin() as connection:
            self.backfills.advance(connection, item, cursor_ms=item.cursor_ms, bars=0, state="failed", error=reason)
        logger.error("backfill {} failed: {}", item.id, reason)
        return False
