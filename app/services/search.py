"""The search for holes nobody reported: feeds that stand still, and minutes the calendar expects and nobody has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from app.domain.instruments import RULES, Instrument
from app.domain.outbox import Span
from app.domain.sessions import Window
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.services.expected import Expected
from app.services.ports import Catalogue, Clock, Publisher
from app.services.stores import Holes, Outbox

LOCK = 7008
RECENT_MS = 2 * DAY_MS
SLICE_MS = 30 * DAY_MS  # of older bars a turn looks at
MANY = 20  # instruments a turn looks at
SETTLED_MS = 5 * MINUTE_MS  # so long a minute may take to come


@dataclass(frozen=True, slots=True)
class Search:
    """Finds and records holes; stores are modules of app/storage."""

    engine: sa.Engine
    holes: Holes
    outbox: Outbox
    catalogue: Catalogue
    active: Callable[[], Sequence[Instrument]]
    expected: Expected
    clock: Clock
    publisher: Publisher
    grace_s: float
    outage_s: float
    skip: Collection[str] = ()  # exchanges that cannot be asked: the next connection doubts all since the last bar
    places: dict[str, int] = field(default_factory=dict)  # where the next turn goes on

    def outages(self) -> int:
        """While a feed stands still, the open minutes of its instruments are a hole that grows; returns how many."""
        now_ms = self.clock.now_us() // 1000
        hi_ms = int(now_ms - self.grace_s * 1000) // MINUTE_MS * MINUTE_MS
        with self.engine.begin() as connection:
            still = self.holes.standing(connection, still_s=self.outage_s)
            known = self.catalogue({i for i, _ in still})
            parts = []
            seen: dict[tuple[str, int], list[Window]] = {}  # hundreds stand still at the same moment
            for instrument_id, at_ms in still:
                lo_ms = at_ms // MINUTE_MS * MINUTE_MS
                instrument = known.get(instrument_id)
                if instrument is not None and instrument.exchange.value not in self.skip and lo_ms < hi_ms:
                    key = (instrument.calendar, lo_ms)
                    if key not in seen:
                        seen[key] = self.expected.windows(connection, instrument, lo_ms, hi_ms)
                    parts += [(instrument_id, *window) for window in seen[key]]
            found = self.holes.extend_all(connection, parts, "feed down")
            if found:  # charts show the gap as soon as they are read anew
                self.outbox.mark(connection, "publish", [Span(i, lo, hi) for i, lo, hi in parts])
        return found

    def scan(self) -> int:
        """A turn of the scan over the expected grid; returns how many holes it found."""
        asked = [item for item in self.active() if item.exchange.value not in self.skip]
        instruments = sorted(asked, key=lambda item: item.id)
        if not instruments:
            return 0
        now_ms = self.clock.now_us() // 1000 // MINUTE_MS * MINUTE_MS - SETTLED_MS
        first = self.places.get("recent", 0) % len(instruments)
        turn = instruments[first : first + MANY]
        self.places["recent"] = first + MANY if first + MANY < len(instruments) else 0
        with self.engine.begin() as connection:
            if not self.holes.exclusive(connection, LOCK):
                return 0
            found = self._look(connection, turn, now_ms - RECENT_MS, now_ms)
            older = instruments[self.places.get("older", 0) % len(instruments)]
            found += self._look(connection, [older], *self._slice(connection, older, now_ms))
        if found:
            self.publisher.count("holes_scanned", found)
        return found

    def _slice(self, connection: sa.Connection, instrument: Instrument, now_ms: int) -> tuple[int, int]:
        """The next older stretch of the instrument; after its last one the next instrument's turn comes."""
        held = self.holes.covered(connection, instrument.id)
        begin_ms = min((lo for lo, _ in held), default=now_ms)
        hi_ms = self.places.get("before", 0) or now_ms - RECENT_MS
        lo_ms = hi_ms - SLICE_MS
        if lo_ms <= begin_ms:
            self.places["older"], self.places["before"] = self.places.get("older", 0) + 1, 0
        else:
            self.places["before"] = lo_ms
        return max(lo_ms, begin_ms), hi_ms

    def _look(self, connection: sa.Connection, instruments: Sequence[Instrument], lo_ms: int, hi_ms: int) -> int:
        if lo_ms >= hi_ms:
            return 0
        dense = [item.id for item in instruments if RULES[item.exchange].flat_bars]
        found = self.holes.missing_minutes(connection, dense, lo_ms, hi_ms) if dense else []
        for item in instruments:
            if not RULES[item.exchange].flat_bars:
                windows = [w for w in self.expected.windows(connection, item, lo_ms, hi_ms) if w.lo_ms > lo_ms]
                found += self.holes.empty_windows(connection, item.id, [w for w in windows if w.hi_ms < hi_ms])
        self.holes.record_all(connection, found, "missing bars")
        return len(found)
