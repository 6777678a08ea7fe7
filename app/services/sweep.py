"""The sweep: history is asked about closed bars the stream said nothing of, and about minutes it called quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

import sqlalchemy as sa
from loguru import logger

from app.domain.bars import Bar, State
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.sessions import Window
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import RateLimited, SourceError, UnknownInstrument
from app.services.expected import Expected
from app.services.pages import settled_ms
from app.services.ports import Catalogue, Clock, Cutoffs, History, keeps_all
from app.services.stores import Candles, Official
from app.services.verify import Verify

CHUNK = 1000  # minutes a request
RECENT_MS = 7 * DAY_MS  # older bars without the exchange's word are an import's, or for `verify` to look at
LIMIT = 4000  # bars a turn looks at
QUIET_S = 5.0  # wall time a closed bar is given for the stream's word to come
RUN_S = 15.0
REST_S, REST_MOST_S = 30.0, 3600.0  # an instrument whose history fails is left alone for so long
NUMBERLESS = [exchange.value for exchange, rules in RULES.items() if rules.streamed and not rules.contiguous_ids]


class Stretch(NamedTuple):
    """Minutes [lo, end) of an instrument that history is asked about at once."""

    instrument: Instrument
    lo_ms: int
    end_ms: int
    more: bool = False  # closed bars beyond it wait, too


@dataclass(frozen=True, slots=True)
class Sweep:
    """Asks history within a budget of requests; `official` is app.storage.official."""

    engine: sa.Engine
    official: Official
    candles: Candles
    verify: Verify
    catalogue: Catalogue
    expected: Expected
    history: Callable[[Instrument], History | None]
    clock: Clock
    grace_s: float
    after_s: float
    every_s: float
    cutoffs: Cutoffs = keeps_all
    budget: int = 8  # requests one turn may spend
    resting: dict[int, tuple[float, float]] = field(default_factory=dict)  # instrument → (until, next pause)
    # Instrument → where its round goes on, and how many minutes of the round history did not list.
    rounds: dict[int, tuple[int, int]] = field(default_factory=dict)
    rest_until: dict[Exchange, float] = field(default_factory=dict)  # an exchange asked us to wait until then

    def run(self) -> int:
        """One turn; returns how many minutes it had checked."""
        now_ms = self.clock.now_us() // 1000
        end = monotonic() + RUN_S
        checked, spent = self._unverified(now_ms, end)
        return checked + self._quiet(now_ms, self.budget - spent, end)

    def _unverified(self, now_ms: int, end: float) -> tuple[int, int]:
        """Closed bars of the last week without the exchange's word; returns minutes and requests."""
        hi_ms = int(now_ms - (self.after_s + self.grace_s) * 1000) // MINUTE_MS * MINUTE_MS
        with self.engine.begin() as connection:
            found = self.official.unverified(
                connection,
                lo_ms=max(now_ms - RECENT_MS, self.cutoffs(connection).get(Timeframe.M1, 0)),
                hi_ms=hi_ms,
                quiet_s=QUIET_S,
                resting=self._tired(),
                limit=self.budget,
            )
        known = self.catalogue({i for i, _, _ in found})
        stretches = [self._from(known[i], first_ms, last_ms) for i, first_ms, last_ms in found if i in known]
        return self._ask_all(stretches, now_ms, end)

    def _from(self, instrument: Instrument, first_ms: int, last_ms: int) -> Stretch:
        """The stretch to ask for next of [first, last]: its start, or where a round goes on."""
        lo_ms, _ = self.rounds.get(instrument.id, (first_ms, 0))
        if not first_ms < lo_ms <= last_ms:
            self.rounds.pop(instrument.id, None)
            lo_ms = first_ms
        end_ms = min(last_ms + MINUTE_MS, lo_ms + CHUNK * MINUTE_MS)
        return Stretch(instrument, lo_ms, end_ms, more=end_ms <= last_ms)

    def _quiet(self, now_ms: int, budget: int, end: float) -> int:
        """Where ids have gaps, a message lost inside a connection leaves no trace but in the exchange's own bars."""
        with self.engine.begin() as connection:
            found = self.official.unchecked(
                connection, NUMBERLESS, every_s=self.every_s, resting=self._tired(), limit=LIMIT
            )
            known = self.catalogue({i for i, _, _ in found})
            kept_ms = self.cutoffs(connection).get(Timeframe.M1, 0)
            stretches: list[Stretch] = []
            for instrument_id, lo_ms, until_ms in found:
                if instrument_id in known and len(stretches) < budget:
                    stretches += self._next(connection, known[instrument_id], max(lo_ms, kept_ms), until_ms, now_ms)
        return self._ask_all(stretches, now_ms, end, quiet=True)[0]

    def _next(
        self, connection: sa.Connection, instrument: Instrument, lo_ms: int, until_ms: int, now_ms: int
    ) -> list[Stretch]:
        """The stretch to ask for next; where no bar is expected there is nothing to ask."""
        hi_ms = min(until_ms, settled_ms(instrument.exchange, now_ms) // MINUTE_MS * MINUTE_MS)
        windows = self.expected.windows(connection, instrument, lo_ms, hi_ms) if lo_ms < hi_ms else []
        if not windows:
            self.official.checked(connection, instrument.id, max(lo_ms, hi_ms))
            return []
        first: Window = windows[0]
        return [Stretch(instrument, first.lo_ms, min(first.hi_ms, first.lo_ms + CHUNK * MINUTE_MS))]

    def _ask_all(
        self, stretches: Sequence[Stretch], now_ms: int, end: float, *, quiet: bool = False
    ) -> tuple[int, int]:
        """Minutes checked and requests made; an exchange that asks us to wait holds up no other."""
        checked = spent = 0
        for stretch in stretches:
            instrument = stretch.instrument
            if monotonic() > end:
                break
            if (until := self.rest_until.get(instrument.exchange, 0.0)) > monotonic():
                self.resting[instrument.id] = (until, REST_S)
                continue
            spent += 1
            try:
                left = self._ask(stretch, now_ms, quiet=quiet)
                self._go_on(stretch, left)
                checked += 0 if left else (stretch.end_ms - stretch.lo_ms) // MINUTE_MS
            except RateLimited as error:
                logger.warning("verification waits: {}", error)
                self.rest_until[instrument.exchange] = until = monotonic() + error.retry_after_s
                self.resting[instrument.id] = (until, REST_S)
            except (SourceError, UnknownInstrument) as error:
                self._rest(instrument, error)
        return checked, spent

    def _ask(self, stretch: Stretch, now_ms: int, *, quiet: bool) -> int:
        """Takes history's word on the stretch; returns how many of our closed bars it does not list."""
        instrument, lo_ms, end_ms, _ = stretch
        source = self.history(instrument)
        if source is None:
            raise SourceError(f"{instrument.exchange.value} has no history source")
        before = {bar.time_ms: bar.revision for bar in self._stored(instrument, lo_ms, end_ms)}
        bars = source.klines(instrument, Timeframe.M1, lo_ms, end_ms, CHUNK)
        with self.engine.begin() as connection:
            self.verify.take(connection, instrument, bars, lo_ms=lo_ms, end_ms=end_ms, now_ms=now_ms, before=before)
            if quiet:
                self.official.checked(connection, instrument.id, end_ms)
        listed = {bar.time_ms for bar in bars}
        unlisted = [bar for bar in self._stored(instrument, lo_ms, end_ms) if bar.time_ms not in listed]
        return sum(bar.state is State.CLOSED for bar in unlisted)

    def _go_on(self, stretch: Stretch, left: int) -> None:
        """Where the instrument's next turn begins: minutes that history does not list keep no later one from its turn.

        They are asked about again with the next round, after a pause that grows from round to round.
        """
        instrument_id = stretch.instrument.id
        _, before = self.rounds.get(instrument_id, (0, 0))
        unlisted = before + left
        if not unlisted:
            self.resting.pop(instrument_id, None)
        elif stretch.more:
            self.rounds[instrument_id] = (stretch.end_ms, unlisted)
            if left:  # the next turns are the others'; the pause that follows the round stays what it is
                _, pause_s = self.resting.get(instrument_id, (0.0, REST_S))
                self.resting[instrument_id] = (monotonic() + REST_S, pause_s)
        else:
            self.rounds.pop(instrument_id, None)
            said = f"its history does not list {unlisted} of the minutes that are stored"
            self._rest(stretch.instrument, SourceError(said))

    def _stored(self, instrument: Instrument, lo_ms: int, end_ms: int) -> list[Bar]:
        with self.engine.begin() as connection:
            return self.candles.read_many(connection, [instrument.id], Timeframe.M1, start_ms=lo_ms, end_ms=end_ms)

    def _tired(self) -> Iterable[int]:
        return [i for i, (until, _) in self.resting.items() if until > monotonic()]

    def _rest(self, instrument: Instrument, error: Exception) -> None:
        _, pause_s = self.resting.get(instrument.id, (0.0, REST_S))
        self.resting[instrument.id] = (monotonic() + pause_s, min(REST_MOST_S, pause_s * 2))
        logger.warning("{} cannot be verified, next attempt in {:.0f} s: {}", instrument.key, pause_s, error)
