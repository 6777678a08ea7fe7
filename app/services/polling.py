"""Polling: Yahoo has no stream, so its bars are asked for every few minutes while their market is open."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import batched
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from loguru import logger

from app.domain.bars import Bar
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.outbox import Span
from app.domain.pace import Pace
from app.domain.polls import again_from, behind, believed, length_ms, plan
from app.domain.sessions import Window, clipped, current, following, windows
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import RateLimited, SourceError, UnknownInstrument
from app.services.ports import Clock, Cutoffs, History, Publisher, keeps_all
from app.services.stores import Backfills, Candles, Holes, Outbox, Sessions

CAUSE = "not polled"
LOCK = 7020
RUN_S = 12.0  # a round ends then; what is left is handed on
OVERLAP_MS = 30 * MINUTE_MS  # of the open market, asked for again each time: Yahoo revises its newest bars
STEP_MS = 7 * DAY_MS  # of 1m bars in one request
REACH_MS = 29 * DAY_MS  # Yahoo has 1m bars of 30 days
BACK_MS, AHEAD_MS = 14 * DAY_MS, 21 * DAY_MS  # longer than any holiday
PIECE = 2000  # bars a transaction stores
STEP_BARS = 20_000  # more than a step can have
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0  # after a failure, doubled with each
JITTER = 0.25
LATE = 3  # polls that may be missed before the minutes are a hole
REACH_ERROR = "Yahoo has 1m bars of the last 30 days only"


class PollClock(Clock, Protocol):
    """Exchange time and its speed."""

    @property
    def speed(self) -> float: ...


class Settled(Protocol):
    """app.storage.settled."""

    def until(self, connection: sa.Connection, instruments: Iterable[int], /) -> dict[int, int]: ...
    def forward(self, connection: sa.Connection, instrument_id: int, until_ms: int, /) -> None: ...
    def back(self, connection: sa.Connection, instrument_id: int, until_ms: int, /) -> None: ...
    def extend(
        self, connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str, /, *, error: str | None
    ) -> int: ...
    def filled(self, connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int, cause: str, /) -> None: ...
    def alone(self, engine: sa.Engine, key: int, /) -> AbstractContextManager[bool]: ...


class PaceBook(Protocol):
    """app.cache.paces.Paces."""

    def read(self, instruments: Iterable[int]) -> dict[int, Pace]: ...
    def put(self, paces: Mapping[int, Pace]) -> None: ...
    def rest(self, seconds: float) -> None: ...
    def rest_s(self) -> float: ...


class _Due(NamedTuple):
    """An instrument to ask for: known up to, known up to after that, the market's windows."""

    instrument: Instrument
    until_ms: int
    next_ms: int
    expected: list[Window]
    pace: Pace
    kept_ms: int = 0  # nothing older is kept


@dataclass(frozen=True, slots=True)
class Polling:
    """Asks for what is due; stores are modules of app/storage, `beat` says how the poller fares."""

    engine: sa.Engine
    settled: Settled
    candles: Candles
    holes: Holes
    outbox: Outbox
    backfills: Backfills
    sessions: Sessions
    watchlist: Callable[[], list[Instrument]]  # the active instruments
    history: Callable[[Instrument], History | None]
    clock: PollClock
    publisher: Publisher
    paces: PaceBook
    beat: Callable[[Mapping[str, Any]], None]
    poll_s: float
    outage_s: float
    start_backfill_hours: int
    cutoffs: Cutoffs = keeps_all
    exchange: Exchange = Exchange.YAHOO
    wall_s: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random

    def run(self) -> bool:
        """One round; True where its time was too short for all that is due."""
        mine = [item for item in self.watchlist() if item.exchange is self.exchange]
        if not mine:
            self.beat({"exchange": self.exchange.value, "feed": "idle"})
            return False
        with self.settled.alone(self.engine, LOCK) as alone:
            if not alone:
                return False
            return self._round(mine, self.clock.now_us() // 1000)

    @property
    def _lag_ms(self) -> int:
        rules = RULES[self.exchange]
        return (rules.delay_s + rules.history_lag_s) * 1000

    def _round(self, mine: Sequence[Instrument], now_ms: int) -> bool:
        with self.engine.begin() as connection:
            until = self.settled.until(connection, [item.id for item in mine])
            until |= self._welcome(connection, [item for item in mine if item.id not in until], now_ms)
            kept_ms = self.cutoffs(connection).get(Timeframe.M1, 0)
            until = {i: max(known_ms, kept_ms) for i, known_ms in until.items()}
            expected = self._windows(connection, mine, min(now_ms, *until.values()), now_ms)
        paces = self.paces.read(until)
        due: list[_Due] = []
        for item in mine:
            if not expected[item.calendar]:
                continue  # its sessions are not stored yet
            known_ms = self._believed(item, until[item.id], expected[item.calendar], now_ms)
            one = self._plan(item, known_ms, expected[item.calendar], paces[item.id], now_ms)
            due += [one._replace(kept_ms=kept_ms)] if one is not None else []
        self._note_outages(due, now_ms)
        try:
            left = self._ask(sorted(due, key=lambda one: one.until_ms), paces, now_ms)
        finally:
            self._beat(mine, expected, paces, now_ms)
        return left

    def _welcome(self, connection: sa.Connection, new: Sequence[Instrument], now_ms: int) -> dict[int, int]:
        """Instruments seen for the first time: from now on they are polled, a backfill fetches what was before."""
        if not new:
            return {}
        since_ms = (now_ms - self._lag_ms) // MINUTE_MS * MINUTE_MS
        for item in new:
            self.settled.forward(connection, item.id, since_ms)
        if self.start_backfill_hours:
            lo_ms = Timeframe.D1.floor(now_ms - self.start_backfill_hours * 3_600_000)
            hi_ms = Timeframe.M1.floor(now_ms)
            self.backfills.create_all(connection, Timeframe.M1, [(item.id, lo_ms, hi_ms) for item in new])
        return {item.id: since_ms for item in new}

    def _windows(
        self, connection: sa.Connection, mine: Sequence[Instrument], lo_ms: int, now_ms: int
    ) -> dict[str, list[Window]]:
        names = {item.calendar for item in mine}
        found = {name: self.sessions.read(connection, name, lo_ms - BACK_MS, now_ms + AHEAD_MS) for name in names}
        return {name: windows(name, sessions) for name, sessions in found.items()}

    def _believed(self, item: Instrument, until_ms: int, expected: list[Window], now_ms: int) -> int:
        known_ms = believed(until_ms, now_ms, expected, lag_ms=self._lag_ms, slack_ms=OVERLAP_MS)
        if known_ms < until_ms:
            ahead_min = (until_ms - now_ms) // MINUTE_MS
            logger.warning("{} was known {} min ahead of time: its last window is asked for again", item.key, ahead_min)
            with self.engine.begin() as connection:
                self.settled.back(connection, item.id, known_ms)
        return known_ms

    def _plan(self, item: Instrument, until_ms: int, expected: list[Window], pace: Pace, now_ms: int) -> _Due | None:
        due = plan(
            now_ms, until_ms, pace.asked_ms, expected, lag_ms=self._lag_ms, every_ms=int(self.poll_s * 1000)
        )  # fmt: skip
        if due.ask:
            return _Due(item, until_ms, due.until_ms, expected, pace)
        if due.until_ms > until_ms:
            with self.engine.begin() as connection:  # nothing was traded since: known without asking
                self._settle(connection, item, until_ms, due.until_ms)
        return None

    def _settle(self, connection: sa.Connection, item: Instrument, lo_ms: int, until_ms: int) -> None:
        self.settled.forward(connection, item.id, until_ms)
        if lo_ms < until_ms:
            self.holes.cover(connection, item.id, lo_ms, until_ms)

    def _note_outages(self, due: Sequence[_Due], now_ms: int) -> None:
        """Minutes that nobody asked for in time are a hole until they are there, so that status and charts show it."""
        most_ms = LATE * max(self.poll_s, self.outage_s * self.clock.speed) * 1000
        lacking = {one.instrument.id: behind(one.until_ms, now_ms, one.expected, lag_ms=self._lag_ms) for one in due}
        self._not_polled([(i, *w) for i, parts in lacking.items() if length_ms(parts) > most_ms for w in parts])

    def _not_polled(self, stretches: Sequence[tuple[int, int, int]], error: str | None = None) -> None:
        if stretches:
            with self.engine.begin() as connection:
                if self.settled.extend(connection, stretches, CAUSE, error=error):
                    self.outbox.mark(connection, "publish", [Span(*stretch) for stretch in stretches])

    def _ask(self, due: Sequence[_Due], paces: dict[int, Pace], now_ms: int) -> bool:
        """Asks for one after the other; one that fails does not stop the rest, a limit stops the round."""
        end = time.monotonic() + RUN_S
        defects: list[Exception] = []
        if due and self.paces.rest_s() > 0:
            return False
        for one in due:
            if time.monotonic() > end:
                return True
            if one.pace.not_before_s > self.wall_s():
                continue
            number = one.instrument.id
            try:
                self._poll(one, now_ms)
                paces[number] = Pace(now_ms)
            except RateLimited as error:
                paces[number] = one.pace._replace(error=str(error))
                self.paces.rest(error.retry_after_s * (1 + JITTER * self.draw()))
                logger.warning("polling rests for {:.0f} s: {}", error.retry_after_s, error)
                return False
            except (SourceError, UnknownInstrument) as error:
                paces[number] = self._failed(one, str(error), now_ms)
            except sa.exc.DBAPIError:
                raise  # the database's trouble is everybody's
            except Exception as error:  # noqa: BLE001 - raised at the round's end: the others are asked first
                paces[number] = self._failed(one, f"defect: {error!r}"[:300], now_ms)
                defects.append(error)
            finally:
                self.paces.put({number: paces[number]})
        if defects:
            raise defects[0]
        return False

    def _failed(self, one: _Due, error: str, now_ms: int) -> Pace:
        logger.warning("{} was not polled: {}", one.instrument.key, error)
        self.publisher.count("polls_failed")
        parts = behind(one.until_ms, now_ms, one.expected, lag_ms=self._lag_ms)
        self._not_polled([(one.instrument.id, *window) for window in parts], error)
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(one.pace.failures, 10)) * (1 + JITTER * self.draw())
        return Pace(one.pace.asked_ms, one.pace.failures + 1, self.wall_s() + wait_s, error)

    def _poll(self, one: _Due, now_ms: int) -> None:
        """Fetches and stores an instrument's bars, step by step after a long outage; raises SourceError."""
        item = one.instrument
        source = self.history(item)
        if source is None:
            raise SourceError(f"{item.exchange.value} has no history source")
        reach_ms = (now_ms - REACH_MS) // MINUTE_MS * MINUTE_MS
        if one.until_ms < reach_ms:
            lost = clipped(one.until_ms, reach_ms, one.expected)
            self._not_polled([(item.id, *window) for window in lost], REACH_ERROR)
        lo_ms = max(self._again_from(one, now_ms), reach_ms, one.kept_ms)
        known_ms = one.until_ms
        while lo_ms < now_ms:
            hi_ms = min(lo_ms + STEP_MS, now_ms)
            bars = source.klines(item, Timeframe.M1, lo_ms, hi_ms, STEP_BARS)
            next_ms = one.next_ms if hi_ms == now_ms else max(known_ms, min(hi_ms, one.next_ms))
            self._store(item, bars, (known_ms, next_ms), lo_ms)
            lo_ms, known_ms = hi_ms, next_ms

    def _again_from(self, one: _Due, now_ms: int) -> int:
        span = {"start_ms": now_ms - STEP_MS, "end_ms": now_ms}  # no further back: still one request
        with self.engine.begin() as connection:
            last = self.candles.read(connection, one.instrument.id, Timeframe.M1, **span, limit=1)
        last_ms = last[0].time_ms if last else None
        return again_from(one.until_ms, now_ms - self._lag_ms, one.expected, overlap_ms=OVERLAP_MS, last_ms=last_ms)

    def _store(self, item: Instrument, bars: Sequence[Bar], known: tuple[int, int], lo_ms: int) -> None:
        """Bars asked for from `lo_ms` on enter as verified; afterwards everything in `known` [from, until) is there."""
        pieces = list(batched(bars, PIECE)) or [()]
        for number, piece in enumerate(pieces, 1):
            with self.engine.begin() as connection:
                changed = self.candles.replace(connection, list(piece), flats=RULES[item.exchange].flat_bars)
                if changed:
                    times = [time_ms for _, time_ms in changed]
                    self.outbox.mark(connection, "rollup", [Span(item.id, min(times), max(times))])
                if number == len(pieces):
                    self._settle(connection, item, *known)
                    self.settled.filled(connection, item.id, lo_ms, known[1], CAUSE)
        if bars:
            self.publisher.quote({item.key: (bars[-1].close, bars[-1].close_time // 1000)})

    def _beat(
        self, mine: Sequence[Instrument], expected: Mapping[str, list[Window]], paces: Mapping[int, Pace], now_ms: int
    ) -> None:
        failing = [f"{item.symbol}: {paces[item.id].error}" for item in mine if paces[item.id].error]
        opened = any(current(now_ms, found) is not None for found in expected.values())
        opens = [window.lo_ms for found in expected.values() if (window := following(now_ms, found)) is not None]
        feed = "closed" if not opened else "down" if len(failing) == len(mine) else "connected"
        facts: dict[str, Any] = {"exchange": self.exchange.value, "feed": feed, "at": now_ms}
        facts |= {"delay_s": RULES[self.exchange].delay_s, "instruments": len(mine), "failing": len(failing)}
        if failing:
            facts["error"] = "; ".join(failing[:3])
        if not opened and opens:
            facts["opens"] = min(opens)
        self.beat(facts)
