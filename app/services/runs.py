"""What the start of a run means: coverage begins, doubt since the last run is a hole, history is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.sessions import Window
from app.domain.timeframes import MINUTE_MS, MINUTE_US, Timeframe
from app.domain.trades import Mark
from app.services.expected import Expected
from app.services.ports import Catalogue
from app.services.stores import Backfills, Feeds, Holes

MARGIN_US = 5_000_000  # our clock may be behind the exchange's: a start so close to a minute's end doubts the next, too


@dataclass(frozen=True, slots=True)
class RunOpener:
    """Enters runs; `feeds`, `holes`, `backfills` are modules of app/storage."""

    feeds: Feeds
    holes: Holes
    backfills: Backfills
    catalogue: Catalogue
    expected: Expected
    start_backfill_hours: int

    def open(self, connection: sa.Connection, mark: Mark) -> None:
        """Enters what the batch says of its run, in the batch's transaction.

        A connection sees nothing of what was traded before it: the minutes from the last stored bar up to and with
        the one it began in are a hole until the exchange's own bars stand there.
        """
        before = {} if mark.subscribed is None else self.feeds.subscribed(connection, mark.run)
        if not self.feeds.open_run(connection, mark) or mark.kind != "live" or mark.subscribed is None:
            return
        now = dict(mark.subscribed)
        fresh = {i: since_us for i, since_us in now.items() if before.get(i) != since_us}
        self._subscribe(connection, fresh)
        self._leave(connection, [i for i in before if i not in now], _minute_ms(mark.upto_us))

    def _subscribe(self, connection: sa.Connection, sinces: Mapping[int, int]) -> None:
        """Instrument id → time (µs) since which it is received; hundreds at once, so each step is one statement."""
        minutes = {i: _minute_ms(since_us) for i, since_us in sinces.items()}
        since = self.holes.live_since(connection, minutes)
        new = {i: minute_ms for i, minute_ms in minutes.items() if i not in since}
        self.holes.cover_live(connection, new)
        if self.start_backfill_hours:
            history_ms = self.start_backfill_hours * 3_600_000
            # From a midnight on: so that the first bar of every timeframe is whole.
            wanted = [(i, Timeframe.D1.floor(minute_ms - history_ms), minute_ms) for i, minute_ms in new.items()]
            self.backfills.create_all(connection, Timeframe.M1, wanted)
        last = self.holes.last_known(connection, {i: minutes[i] for i in since})
        doubt = []
        for instrument_id, minute_ms in minutes.items():
            first_ms = since.get(instrument_id, minute_ms)
            # Without any bar everything since the claim began is in doubt, not just the minute of this connection.
            lo_ms = min(minute_ms, max(last.get(instrument_id, first_ms), first_ms))
            doubt.append((instrument_id, lo_ms, _minute_ms(sinces[instrument_id] + MARGIN_US) + MINUTE_MS))
        self.holes.record_all(connection, self._expected(connection, doubt), "connected")

    def _leave(self, connection: sa.Connection, instruments: Sequence[int], minute_ms: int) -> None:
        """No clock closes the last minutes of what is not received any more: the exchange's own bars do."""
        last = self.holes.last_known(connection, dict.fromkeys(instruments, minute_ms))
        doubt = [(i, last.get(i, minute_ms), minute_ms + MINUTE_MS) for i in instruments]
        self.holes.record_all(connection, self._expected(connection, doubt), "left")

    def _expected(self, connection: sa.Connection, doubt: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """The parts of (instrument, lo, hi) in which its market was open: no bar is missing from a closed one."""
        known = self.catalogue({item[0] for item in doubt})
        seen: dict[tuple[str, int, int], list[Window]] = {}
        parts = []
        for instrument_id, lo_ms, hi_ms in doubt:
            instrument = known.get(instrument_id)
            if instrument is None:
                continue
            key = (instrument.calendar, lo_ms, hi_ms)
            if key not in seen:
                seen[key] = self.expected.windows(connection, instrument, lo_ms, hi_ms)
            parts += [(instrument_id, *window) for window in seen[key]]
        return parts


def _minute_ms(time_us: int) -> int:
    return time_us // MINUTE_US * MINUTE_MS
