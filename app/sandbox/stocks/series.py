"""One stock's market: its tape, what was amended, and its true bars."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from app.errors import BadInput
from app.sandbox.stocks.amendments import Amendment, Amendments, Kind
from app.sandbox.stocks.hours import DAY_US, MINUTE_US, Hours, Session
from app.sandbox.stocks.listing import Listing
from app.sandbox.stocks.prints import CORRECTED, VALID, Print, Prints, join
from app.sandbox.stocks.tape import IDS_A_DAY, REPORTED_IDS, StockTape
from app.sandbox.stocks.truth import TIME_MS, bars, cells, whole_bar
from app.sandbox.tape import Ints
from app.sandbox.truth import TrueBar, longer_bars

MINUTE_MS, DAY_MS = MINUTE_US // 1000, DAY_US // 1000
CACHED_SESSIONS = 8
CACHED_DAYS = 1000


class StockSeries:
    """The prints of one stock from `oldest_us` on, its daily bars from `oldest_day_us` on."""

    def __init__(self, tape: StockTape, *, oldest_us: int, oldest_day_us: int) -> None:
        self._tape = tape
        self.oldest_us, self.oldest_day_us = oldest_us, min(oldest_us, oldest_day_us)
        self.amendments = Amendments()
        self._cells: OrderedDict[tuple[int, tuple[int, int]], Ints] = OrderedDict()
        self._days: OrderedDict[tuple[int, tuple[int, int]], TrueBar | None] = OrderedDict()

    @property
    def listing(self) -> Listing:
        """What the stock is."""
        return self._tape.listing

    @property
    def hours(self) -> Hours:
        """When it trades."""
        return self._tape.hours

    def prints(self, lo_us: int, hi_us: int, now_us: int) -> Prints:
        """The prints of [lo, hi) as told by `now_us`, wrong ones marked."""
        lo_us, hi_us = max(lo_us, self.oldest_us), min(hi_us, now_us)
        found = []
        for session in self.hours.between(lo_us, hi_us):
            span = max(lo_us, session.lo_us), min(hi_us, session.hi_us)
            found.append(self._told(self._tape.window(session, *span), session, span, now_us))
        return join(found)

    def tape_prints(self, lo_us: int, hi_us: int) -> Prints:
        """The tape's own prints of [lo, hi), whatever became of them."""
        sessions = self.hours.between(lo_us, hi_us)
        return join([self._tape.window(session, lo_us, hi_us) for session in sessions])

    def find(self, number: int, now_us: int) -> Print:
        """The valid print with an id; raises BadInput where there is none."""
        day_us = number // IDS_A_DAY * DAY_US
        for session in self.hours.dated(day_us, day_us + DAY_US):
            told = self.prints(session.lo_us, session.hi_us, now_us)
            for place in np.flatnonzero(told.id == number).tolist():
                row = next(told.cut(place, place + 1).rows())
                if row.mark in (VALID, CORRECTED):
                    return row
        raise BadInput(f"{self.listing.symbol} has no print {number} that could be amended")

    def latest(self, now_us: int) -> Print | None:
        """The last valid print before `now_us`; None where the last two weeks have none."""
        for session in reversed(self.hours.between(now_us - 14 * DAY_US, now_us)):
            span = MINUTE_US
            while True:
                told = self.prints(max(session.lo_us, now_us - span), session.hi_us, now_us)
                valid = np.flatnonzero((told.mark == VALID) | (told.mark == CORRECTED))
                if len(valid):
                    return next(told.cut(int(valid[-1]), int(valid[-1]) + 1).rows())
                if now_us - span <= session.lo_us:
                    break
                span *= 8
        return None

    def add(self, at_us: int, kind: Kind, before: Print | None, after: Print | None) -> Amendment:
        """Amend a print, from `at_us` on; a new one gets an id of its own. Raises BadInput outside the hours."""
        time_us = (before or after or Print(0, 0, 0, 0, 0, 0)).time_us
        session = self.hours.at(time_us)
        if session is None:
            raise BadInput(f"{self.listing.symbol} does not trade at that time ({time_us} µs)")
        number = len(self.amendments) + 1
        if after is not None:
            after = after._replace(id=session.date_us // DAY_US * IDS_A_DAY + REPORTED_IDS + number)
        amendment = Amendment(at_us, number, kind, session.date_us, before, after)
        self.amendments.add(amendment)
        return amendment

    def bars(self, length_ms: int, *, start_ms: int, end_ms: int, now_us: int, extended: bool = False) -> list[TrueBar]:
        """The bars that start in [start, end), the last as it stands at `now_us`; see StockMarket.bars."""
        if length_ms == DAY_MS:
            return self._daily(start_ms, end_ms, now_us)
        lo_ms = max(-(-start_ms // length_ms) * length_ms, -(-self.oldest_us // MINUTE_US) * MINUTE_MS)
        hi_ms = min(-(-end_ms // length_ms) * length_ms, now_us // 1000 + 1)
        minutes: list[TrueBar] = []
        for session in self.hours.between(lo_ms * 1000, hi_ms * 1000):
            minutes += bars(self._cut(session, (lo_ms, hi_ms), now_us, extended=extended))
        return minutes if length_ms == MINUTE_MS else longer_bars(minutes, length_ms)

    def minute(self, start_us: int, now_us: int) -> TrueBar | None:
        """The bar of one minute that is over, in extended hours too; None where there is none."""
        session = self.hours.at(start_us)
        if session is None:
            return None
        found, time_ms = self._whole(session, now_us), start_us // 1000
        at = int(np.searchsorted(found[:, TIME_MS], time_ms))
        there = found[at : at + 1]
        return next(iter(bars(there[there[:, TIME_MS] == time_ms])), None)

    def over_us(self, time_ms: int, length_ms: int) -> int:
        """When the bar that starts at `time_ms` is complete."""
        if length_ms != DAY_MS:
            return (time_ms + length_ms) * 1000
        found = self.hours.dated(time_ms * 1000, time_ms * 1000 + 1)
        return found[0].over_us if found else time_ms * 1000 + DAY_US

    def _daily(self, start_ms: int, end_ms: int, now_us: int) -> list[TrueBar]:
        lo_us, hi_us = max(start_ms * 1000, self.oldest_day_us), min(end_ms * 1000, now_us)
        found = [self.day(session, now_us) for session in self.hours.dated(lo_us, hi_us)]
        return [bar for bar in found if bar is not None]

    def day(self, session: Session, now_us: int) -> TrueBar | None:
        """The daily bar of a session as it stands at `now_us`; None before its first print."""
        key = session.date_us, self.amendments.version(session.date_us, now_us)
        if session.over_us <= now_us and key in self._days:
            return self._days[key]
        if session.over_us <= now_us and key not in self._cells:
            found = self._count(session, session.regular_us, now_us)  # without what lies around: it may be of long ago
        else:
            spans = session.regular_us[0] // 1000, session.regular_us[1] // 1000
            found = self._cut(session, spans, now_us, extended=False)
        bar = whole_bar(found, session.date_us // 1000)
        if session.over_us <= now_us:
            self._days[key] = bar
            while len(self._days) > CACHED_DAYS:
                self._days.popitem(last=False)
        return bar

    def _cut(self, session: Session, span_ms: tuple[int, int], now_us: int, *, extended: bool) -> Ints:
        """The cells of a session inside a span, as they stand at `now_us`."""
        lo_us, hi_us = (session.lo_us, session.hi_us) if extended else session.regular_us
        lo_ms, hi_ms = max(span_ms[0], lo_us // 1000), min(span_ms[1], hi_us // 1000)
        found, running_ms = self._whole(session, now_us), now_us // MINUTE_US * MINUTE_MS
        lo, hi = np.searchsorted(found[:, TIME_MS], (lo_ms, min(hi_ms, running_ms)))
        if not lo_ms <= running_ms < hi_ms:
            return found[lo:hi]
        span = running_ms * 1000, now_us
        told = self._told(self._tape.window(session, *span), session, span, now_us)
        return np.concatenate([found[lo:hi], cells(told, session, self.listing.tape)])

    def _whole(self, session: Session, now_us: int) -> Ints:
        """The cells of a whole session, its future included, with what is told by `now_us`."""
        key = session.date_us, self.amendments.version(session.date_us, now_us)
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = self._count(session, (session.lo_us, session.hi_us), now_us)
            while len(self._cells) > CACHED_SESSIONS:
                self._cells.popitem(last=False)
        else:
            self._cells.move_to_end(key)
        return found

    def _count(self, session: Session, span_us: tuple[int, int], now_us: int) -> Ints:
        parts = []
        for span in self._tape.stretches(*span_us):
            told = self._told(self._tape.window(session, *span), session, span, now_us)
            parts.append(cells(told, session, self.listing.tape))
        return np.concatenate(parts)

    def _told(self, prints: Prints, session: Session, span_us: tuple[int, int], now_us: int) -> Prints:
        return self.amendments.applied(prints, session.date_us, span_us=span_us, now_us=now_us)
