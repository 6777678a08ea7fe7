"""When bars of an instrument are expected: its calendar's sessions, widened by what its source has around them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.instruments import RULES, Instrument
from app.domain.sessions import ALWAYS, Window, clipped, windows
from app.services.stores import Sessions


@dataclass(frozen=True, slots=True)
class Expected:
    """Asks the stored sessions; `extended` keeps the extended hours of a source that has them."""

    sessions: Sessions
    extended: bool

    def windows(self, connection: sa.Connection, instrument: Instrument, lo_ms: int, hi_ms: int) -> list[Window]:
        """The parts of [lo, hi) in which bars are expected; all of it as long as no session is known."""
        if instrument.calendar == ALWAYS:
            return [Window(lo_ms, hi_ms)] if lo_ms < hi_ms else []
        found = self.sessions.read(connection, instrument.calendar, lo_ms, hi_ms)
        if not found and self.sessions.last(connection, instrument.calendar) is None:
            return [Window(lo_ms, hi_ms)] if lo_ms < hi_ms else []
        extended = self.extended and RULES[instrument.exchange].extended_hours
        return clipped(lo_ms, hi_ms, windows(instrument.calendar, found, extended=extended))
