"""Gaps of charts: the open holes of a series while its market was open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.gaps import Gap, disjoint
from app.domain.instruments import RULES, Instrument
from app.domain.sessions import ALWAYS, windows
from app.domain.timeframes import Timeframe
from app.services.markets import SessionStore

MOST = 200  # gaps of one series that are told, the newest
MOST_AT_ONCE = 10_000  # of all series that somebody watches, which are read every two seconds


class GapStore(Protocol):
    """Stored gaps that touch [lo, hi), the newest `limit` of all the instruments, oldest first."""

    def gaps(
        self,
        connection: sa.Connection,
        instruments: Iterable[int],
        /,
        *,
        lo_ms: int | None = None,
        hi_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Gap]: ...


class Gaps:
    """Reads gaps, cut to the hours in which bars are expected."""

    def __init__(self, store: GapStore, sessions: SessionStore, *, extended: bool = False) -> None:
        self._store, self._sessions, self._extended = store, sessions, extended

    def of(
        self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, *, lo_ms: int | None, hi_ms: int | None
    ) -> list[dict[str, Any]]:
        """The gaps of a series that touch [lo, hi), oldest first, as charts show them."""
        if not shows_gaps(instrument, tf):
            return []
        found = self._store.gaps(conn, [instrument.id], lo_ms=lo_ms, hi_ms=hi_ms, limit=MOST)
        return self._shown(conn, instrument, found)

    def of_many(self, conn: sa.Connection, instruments: Sequence[Instrument]) -> dict[int, list[dict[str, Any]]]:
        """The gaps of each instrument, by its id."""
        most = min(MOST * len(instruments), MOST_AT_ONCE)  # one outage is a gap of every one of them
        found = self._store.gaps(conn, [instrument.id for instrument in instruments], limit=most)
        found.sort(key=lambda gap: gap.instrument_id)
        groups = {key: list(group) for key, group in groupby(found, key=lambda gap: gap.instrument_id)}
        return {item.id: self._shown(conn, item, groups.get(item.id, [])[-MOST:]) for item in instruments}

    def _shown(self, conn: sa.Connection, instrument: Instrument, found: Sequence[Gap]) -> list[dict[str, Any]]:
        expected = None
        if found and instrument.calendar != ALWAYS:
            span = min(gap.start_ms for gap in found), max(gap.end_ms for gap in found)
            sessions = self._sessions.read(conn, instrument.calendar, *span)
            extended = self._extended and RULES[instrument.exchange].extended_hours
            # Without sessions nobody knows the hours: then the hole is shown as it is.
            expected = windows(instrument.calendar, sessions, extended=extended) if sessions else None
        return [gap.json() for gap in disjoint(found, expected)]


def shows_gaps(instrument: Instrument, tf: Timeframe) -> bool:
    """Whether missing minutes are a gap of this timeframe: not where its bars are the source's own."""
    return not (tf is Timeframe.D1 and RULES[instrument.exchange].native_daily)
