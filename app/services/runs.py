"""What the start of a run means: coverage begins, doubt since the last run is a hole, history is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.timeframes import MINUTE_MS, MINUTE_US, Timeframe
from app.domain.trades import Mark
from app.services.ports import Backfills, Feeds, Holes


@dataclass(frozen=True, slots=True)
class RunOpener:
    """Enters runs; `feeds`, `holes`, `backfills` are modules of app/storage."""

    feeds: Feeds
    holes: Holes
    backfills: Backfills
    start_backfill_hours: int

    def open(self, connection: sa.Connection, mark: Mark) -> None:
        """Enters what the batch says of its run, in the batch's transaction.

        A connection sees nothing of what was traded before it: the minutes from the last stored bar up to and with
        the one it began in are a hole until the exchange's own bars stand there.
        """
        before = self.feeds.subscribed(connection, mark.run) if mark.subscribed else {}
        if self.feeds.open_run(connection, mark) and mark.kind == "live":
            for instrument_id, since_us in mark.subscribed or ():
                if before.get(instrument_id) != since_us:
                    self._subscribe(connection, instrument_id, since_us)

    def _subscribe(self, connection: sa.Connection, instrument_id: int, since_us: int) -> None:
        minute_ms = since_us // MINUTE_US * MINUTE_MS
        held = self.holes.covered(connection, instrument_id)
        live = [lo for lo, hi in held if hi is None]
        if not live:
            history_ms = self.start_backfill_hours * 3_600_000
            self.holes.cover(connection, instrument_id, minute_ms, None)
            if history_ms:
                # From a midnight on: so that the first bar of every timeframe is whole.
                lo_ms = Timeframe.D1.floor(minute_ms - history_ms)
                self.backfills.create(connection, instrument_id, Timeframe.M1, lo_ms, minute_ms)
        start = self.holes.last_bar(connection, instrument_id, minute_ms) if live else None
        lo_ms = max(start, live[0]) if start is not None and live else minute_ms
        self.holes.record(connection, instrument_id, lo_ms, minute_ms + MINUTE_MS, "connected")
