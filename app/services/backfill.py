"""Backfill: history comes as the exchange's own bars, only what is missing, resumable at any point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from loguru import logger
from redis import RedisError

from app.domain.bar_columns import BarColumns
from app.domain.history import Backfill as Request
from app.domain.instruments import RULES, Instrument
from app.domain.outbox import following
from app.domain.stretches import Stretch, answered, joined, missing, request, whole
from app.domain.timeframes import Timeframe
from app.errors import BadRange, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.services.pages import PAGES, newest_ms, settled_ms
from app.services.ports import Catalogue, Clock, History, PagedHistory, Publisher
from app.services.retention import Retained, admit
from app.services.stores import Backfills, Bulk, Holes, Outbox

SLICE_S = 5.0  # a turn: so long one works, then the others have theirs
LEASE_S = 40.0  # a worker that has shown no progress for so long is taken for dead; longer than a request takes
NAP_S = 1.5  # a source that asks for no more is waited for in the task
YOUNG_S, YOUNG_LONG_S = 5.0, 60.0  # a bar the source has not listed yet is asked for again after so long; longer ones
REFUSED_S = 3600.0  # what the platform itself asked for is asked for again
MOST = 3  # at work at once: more would only wait in the queue
STALE_S, RETRY_S = 90.0, 10.0  # one in the queue for so long is started anew; a source that was away is asked again
LOOK = 10_000  # bars looked at in one question to the database
STORE = 2500  # bars in one transaction


class Part(NamedTuple):
    """What one answer settles: its bars, up to when, and from when on the stretch is ours to claim."""

    bars: BarColumns
    lo_ms: int
    hi_ms: int
    claim_ms: int


@dataclass(frozen=True, slots=True)
class Backfill:
    """Fetches what was asked for; stores are modules of app/storage, `candles` is app.storage.bulk."""

    engine: sa.Engine
    backfills: Backfills
    candles: Bulk
    holes: Holes
    outbox: Outbox
    catalogue: Catalogue
    history: Callable[[Instrument], History | None]
    clock: Clock
    publisher: Publisher
    retained: Retained

    def request(
        self,
        instrument: Instrument,
        tf: Timeframe,
        start_ms: int,
        end_ms: int | None,
        *,
        asked_by: str = "user",
        keep: bool = False,
    ) -> int:
        """Asks for [start, end), by default up to now; returns the backfill's id.

        Raises BadRange, and NotKept for a start before what is kept, unless `keep`: then all from there on is kept.
        """
        newest = newest_ms(instrument.exchange, self.clock.now_us() // 1000)
        lo_ms, hi_ms = tf.floor(start_ms), tf.floor(newest if end_ms is None else min(end_ms, newest))
        if end_ms is not None and end_ms <= start_ms:
            raise BadRange("the range is empty or reversed: --end must come after --start")
        if hi_ms <= lo_ms:
            raise BadRange(
                f"the range holds no finished {tf.value} bar: it must begin before the exchange's present time"
            )
        with self.engine.begin() as connection:
            admit(self.retained, connection, tf, lo_ms, keep=keep, what=f"the backfill of {instrument.symbol}")
            return self.backfills.create(connection, instrument.id, tf, lo_ms, hi_ms, asked_by=asked_by)

    def cancel(self, backfill_id: int) -> bool:
        """Ends it within a chunk; what is stored stays. False where it was over, or is not there."""
        with self.engine.begin() as connection:
            return self.backfills.cancel(connection, backfill_id)

    def due(self) -> list[int]:
        """Whose turn it is: those to be started now, each in a task of its own. They count as started."""
        with self.engine.begin() as connection:
            return self.backfills.claim(connection, most=MOST, stale_s=STALE_S, retry_s=RETRY_S)

    def run(self, backfill_id: int) -> bool:
        """Works on the backfill for a turn; True where it goes on at once with its next."""
        with self.engine.begin() as connection:
            item = self.backfills.begin(connection, backfill_id, lease_s=LEASE_S)
        deadline = time.monotonic() + SLICE_S
        while item is not None and not item.over:
            at = item
            try:
                item = self._step(at)
            except Exception as error:
                if not _passing(error):
                    self._fail(at, f"defect: {error!r}"[:300])
                raise
            if item is not None and not item.over and time.monotonic() > deadline:
                return self._leave(item)
        return False

    def _step(self, item: Request) -> Request | None:
        """One request at most; the backfill as it stands then, or None where this worker has no more to do."""
        instrument = self.catalogue([item.instrument_id]).get(item.instrument_id)
        source = None if instrument is None else self.history(instrument)
        if instrument is None or source is None:
            self._fail(item, "no history source for this instrument")
            return None
        try:
            ask = self._next(item, instrument)
            if isinstance(ask, Request) or ask is None:
                return ask
            limit = PAGES[instrument.exchange].bars
            with self.engine.begin() as connection:  # a newer word may come while the source is asked
                before = self.backfills.revisions(connection, instrument.id, item.timeframe, *ask)
            bars = _page(source, instrument, item.timeframe, ask, limit)
            part = self._part(item, instrument, bars, ask)
        except RateLimited as error:
            return self._rest(item, error)
        except SourceAway as error:
            logger.warning("backfill {} is tried again later: {}", item.id, error)
            self._leave(item, error=str(error))
            return None
        except (SourceError, UnknownInstrument) as error:
            if item.asked_by == "start":  # nobody else would ask for it again
                logger.warning("backfill {} is tried again in an hour: {}", item.id, error)
                self._leave(item, error=str(error), wait_s=REFUSED_S)
            else:
                self._fail(item, str(error))
            return None
        if part.hi_ms <= part.lo_ms:
            wait_s = YOUNG_S if item.timeframe is Timeframe.M1 else YOUNG_LONG_S
            self._leave(item, error="the exchange has not listed the newest bars yet", wait_s=wait_s)
            return None
        return self._store(item, instrument, part, before=before)

    def _next(self, item: Request, instrument: Instrument) -> Stretch | Request | None:
        """What to ask for next; or the backfill moved past what is held, or None as in _step."""
        tf, pages, newest_bar_ms = item.timeframe, PAGES[instrument.exchange], item.hi_ms
        with self.engine.begin() as connection:
            kept_ms = self.retained.cutoffs(connection).get(tf, 0)
            empties = self.backfills.empties(connection, instrument.id, tf)
        if item.cursor_ms < min(kept_ms, item.hi_ms):  # it would be deleted again
            return self._move(item, min(kept_ms, item.hi_ms))
        if pages.back_days and item.cursor_ms < (oldest_ms := min(pages.oldest_ms(tf, self._now_ms()), item.hi_ms)):
            return self._move(item, oldest_ms, empty=True)
        if not (RULES[instrument.exchange].flat_bars or _own_day(item, instrument)):
            newest_bar_ms = min(newest_bar_ms, tf.floor(settled_ms(instrument.exchange, self._now_ms())))
        if newest_bar_ms <= item.cursor_ms:
            self._leave(item, error="the exchange may still add to the newest bars", wait_s=YOUNG_S)
            return None
        for lo_ms, hi_ms in empties:
            if lo_ms <= item.cursor_ms < hi_ms:
                return self._move(item, min(hi_ms, item.hi_ms), empty=True)
        look_ms = min(newest_bar_ms, item.cursor_ms + LOOK * tf.ms)
        todo = self._todo(item, instrument, look_ms, newest_bar_ms)
        if not todo or todo[0][0] > item.cursor_ms:
            return self._move(item, min(look_ms, todo[0][0]) if todo else look_ms)
        return request(todo, pages.span_ms(tf), long=pages.long)

    def _todo(self, item: Request, instrument: Instrument, look_ms: int, hi_ms: int) -> list[Stretch]:
        """What of [cursor, hi) is not claimed, and what of [cursor, look) is claimed but not there verified."""
        rules, tf, lo_ms = RULES[instrument.exchange], item.timeframe, item.cursor_ms
        with self.engine.begin() as connection:
            held = self.holes.covered(connection, instrument.id, tf=tf)
            if tf is not Timeframe.M1 and not _own_day(item, instrument):
                held += whole(self.holes.covered(connection, instrument.id), tf.ms)  # roll-ups of verified minutes
            bare = missing(lo_ms, hi_ms, held)
            if missing(lo_ms, look_ms, bare):
                bare += self.backfills.unverified(connection, instrument.id, tf, lo_ms, look_ms, flats=rules.flat_bars)
        return joined(bare)

    def _part(self, item: Request, instrument: Instrument, bars: BarColumns, ask: Stretch) -> Part:
        """What the answer settles. Time before the series' first bar is not claimed where flat bars are expected."""
        lo_ms, flats = ask[0], RULES[instrument.exchange].flat_bars
        solid_ms = settled_ms(instrument.exchange, self._now_ms())
        full = len(bars) >= PAGES[instrument.exchange].bars
        if _own_day(item, instrument) and len(bars):  # the day goes on, but its session is over: the bar is there
            solid_ms = max(solid_ms, bars.time_ms[-1] + item.timeframe.ms)
        hi_ms = answered(bars.time_ms, ask, item.timeframe.ms, full=full, solid_ms=solid_ms, flats=flats)
        bars = bars.between(lo_ms, hi_ms)
        first_ms = bars.time_ms[0] if len(bars) else hi_ms
        if flats and first_ms > lo_ms:
            with self.engine.begin() as connection:
                if not self.backfills.any_before(connection, instrument.id, item.timeframe, lo_ms):
                    return Part(bars, lo_ms, hi_ms, first_ms)
        return Part(bars, lo_ms, hi_ms, lo_ms)

    def _store(self, item: Request, instrument: Instrument, part: Part, *, before: Mapping[int, int]) -> Request | None:
        """The bars in short transactions, each of which ends at a bar and can be the last."""
        now: Request | None = item
        cuts = list(range(0, len(part.bars), STORE)) or [0]
        lo_ms = part.lo_ms
        for cut in cuts:
            bars = part.bars.part(slice(cut, cut + STORE))
            hi_ms = part.hi_ms if cut == cuts[-1] else bars.time_ms[-1] + item.timeframe.ms
            if now is not None and not now.over:
                cut_part = Part(bars, lo_ms, hi_ms, max(lo_ms, part.claim_ms))
                now = self._commit(now, instrument, cut_part, before=before)
            lo_ms = hi_ms
        return now

    def _commit(
        self, item: Request, instrument: Instrument, part: Part, *, before: Mapping[int, int]
    ) -> Request | None:
        """Progress first: its row is locked by it, and where it is not ours any more nothing is written.

        `before` are the revisions (by ms) of what was verified when the source was asked: a verified bar that has
        another now, or had none, got a word meanwhile that may be newer, and keeps it.
        """
        tf, empty = item.timeframe, part.claim_ms if part.claim_ms > part.lo_ms else None
        with self.engine.begin() as connection:
            now = self.backfills.advance(
                connection, item, cursor_ms=part.hi_ms, bars=len(part.bars), lease_s=LEASE_S, empty_to_ms=empty
            )
            if now is None:
                return None
            flats = RULES[instrument.exchange].flat_bars
            there = self.backfills.revisions(connection, instrument.id, tf, part.lo_ms, part.hi_ms)
            bars = part.bars.without({t for t, revision in there.items() if before.get(t, -1) != revision})
            changed = self.candles.replace(connection, bars, tf=tf, flats=flats)
            if part.claim_ms < part.hi_ms:
                self.holes.cover(connection, instrument.id, part.claim_ms, part.hi_ms, tf=tf)
            if changed:
                self.outbox.mark(connection, *following(instrument.id, tf, [t for _, t in changed], flats=flats))
        return now

    def _move(self, item: Request, cursor_ms: int, *, empty: bool = False) -> Request | None:
        """Passes over what is held, or over time in which the source has nothing."""
        with self.engine.begin() as connection:
            bars = self.backfills.count(connection, item.instrument_id, item.timeframe, item.cursor_ms, cursor_ms)
            empty_to_ms = cursor_ms if empty else None
            return self.backfills.advance(
                connection, item, cursor_ms=cursor_ms, bars=bars, lease_s=LEASE_S, empty_to_ms=empty_to_ms
            )

    def _rest(self, item: Request, error: RateLimited) -> Request | None:
        """A short wait is waited out; for a long one the worker is let go to others."""
        if error.retry_after_s <= NAP_S:
            time.sleep(max(0.05, error.retry_after_s))
            return item
        logger.info("backfill {} waits {:.0f} s: {}", item.id, error.retry_after_s, error)
        self._leave(item, error=str(error), wait_s=error.retry_after_s)
        return None

    def _now_ms(self) -> int:
        try:
            return self.clock.now_us() // 1000
        except SourceError as error:  # the simulated market's clock: it will be back
            raise SourceAway(str(error)) from error

    def _leave(self, item: Request, *, error: str | None = None, wait_s: float | None = None) -> bool:
        with self.engine.begin() as connection:
            self.backfills.leave(connection, item, state="waiting", error=error, wait_s=wait_s)
        return error is None

    def _fail(self, item: Request, reason: str) -> None:
        with self.engine.begin() as connection:
            self.backfills.leave(connection, item, state="failed", error=reason)
        logger.error("backfill {} failed: {}", item.id, reason)


def _own_day(item: Request, instrument: Instrument) -> bool:
    """Whether it is about days that are the source's own: they end with their session, and no minutes prove them."""
    return item.timeframe is Timeframe.D1 and RULES[instrument.exchange].native_daily


def _passing(error: Exception) -> bool:
    """Whether the database or Redis is away: then the lease runs out, and the backfill goes on."""
    away = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, RedisError)
    return isinstance(error, away) or (isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated)


def _page(source: History, instrument: Instrument, tf: Timeframe, ask: Stretch, limit: int) -> BarColumns:
    if isinstance(source, PagedHistory):
        return source.page(instrument, tf, *ask, limit)
    return BarColumns.of(instrument.id, source.klines(instrument, tf, *ask, limit))
