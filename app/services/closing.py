"""Closing: each second, what the feeds' clocks have passed is closed, made whole with flat bars and rolled up.

What is open is looked for among the newest minutes, and now and then among all: those a year back are compressed on
TimescaleDB, without an index of open ones, and hardly ever is one of them open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

import sqlalchemy as sa

from app.domain.feeds import Run, Skipped
from app.domain.outbox import Due
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.services.edges import Edge, edges_of
from app.services.ports import Publisher
from app.services.stores import Feeds, Holes, Minutes

FAR_MS = 253_402_300_740_000
RECENT_MS = 7 * DAY_MS  # of minutes that each pass looks at; none of them is compressed yet
LOOK_S = 60.0  # wall time between two passes that look at all


@dataclass(slots=True)
class Look:
    """How far back this process has to look."""

    next_s: float = 0.0  # from when on a pass looks at everything; the first one does
    old_ms: int | None = None  # the oldest open minute, where it lies farther back than RECENT_MS


@dataclass(frozen=True, slots=True)
class Closing:
    """Closes minutes; the stores are modules of app/storage."""

    engine: sa.Engine
    feeds: Feeds
    minutes: Minutes
    holes: Holes
    publisher: Publisher
    grace_s: float
    import_idle_s: float
    wait_s: float
    look: Look = field(default_factory=Look)

    def run(self) -> int:
        """Folds the clocks, closes what is due, adds flat bars at the edge; returns how many bars closed."""
        everything = monotonic() >= self.look.next_s
        with self.engine.begin() as connection:
            self._skipped(connection, self.feeds.fold(connection, wait_s=self.wait_s))
        with self.engine.begin() as connection:
            runs = self.feeds.runs(connection)
            edges = edges_of(runs, grace_s=self.grace_s)
            closed = self._close(connection, runs, edges, everything=everything)
            self._flats(connection, edges)
            self.minutes.settle(connection, {i: edge.hi_ms for i, edge in edges.items() if not edge.flat})
            self.minutes.ripen(connection, everything=everything)
            self._end_imports(connection, runs)
        if everything:
            self.look.next_s = monotonic() + LOOK_S
        return closed

    def _close(
        self, connection: sa.Connection, runs: Iterable[Run], edges: dict[int, Edge], *, everything: bool
    ) -> int:
        due = [Due(instrument_id, 0, edge.hi_ms, 0.0) for instrument_id, edge in edges.items()]
        recent_ms = min((edge.hi_ms for edge in edges.values()), default=FAR_MS) - RECENT_MS
        from_ms = recent_ms if self.look.old_ms is None else min(recent_ms, self.look.old_ms)
        for run in runs:
            if run.kind == "import" and run.hi_ms is not None:
                for instrument_id, since_us in run.subscribed.items():
                    hi_ms = min(run.hi_ms + MINUTE_MS, edges[instrument_id].hi_ms if instrument_id in edges else FAR_MS)
                    start_ms = since_us // 1000 // MINUTE_MS * MINUTE_MS
                    due.append(Due(instrument_id, start_ms, hi_ms, self.import_idle_s))
                    from_ms = min(from_ms, start_ms)
        if not due:
            return 0
        instruments = {item.instrument_id for item in due}
        lo_ms = self.minutes.oldest_open(connection, instruments, from_ms=0 if everything else from_ms)
        self.look.old_ms = lo_ms if lo_ms is not None and lo_ms < recent_ms else None
        if lo_ms is None:
            return 0
        sparse = {i: edge.hi_ms for i, edge in edges.items() if not edge.flat and edge.hi_ms > lo_ms}
        self.minutes.drop_unpriced(connection, sparse, lo_ms=lo_ms)
        due = [item for item in due if item.hi_ms > max(item.lo_ms, lo_ms)]
        return int(self.minutes.close(connection, due, lo_ms=lo_ms))

    def _flats(self, connection: sa.Connection, edges: dict[int, Edge]) -> None:
        wanted = [
            (i, edge.since_ms, edge.hi_ms) for i, edge in edges.items() if edge.flat and edge.hi_ms > edge.since_ms
        ]
        if wanted:
            lo_ms, hi_ms = min(item[1] for item in wanted), max(item[2] for item in wanted)
            self.minutes.trailing_flats(connection, wanted, lo_ms=lo_ms, hi_ms=hi_ms)

    def _skipped(self, connection: sa.Connection, skipped: Iterable[Skipped]) -> None:
        """A batch that never came: every instrument of its run is in doubt since the clock stood."""
        lost = list(skipped)
        if not lost:
            return
        runs = {run.run: run for run in self.feeds.runs(connection, also=[item.run for item in lost])}
        for item in lost:
            self.publisher.count("batches_lost", item.last_n - item.first_n + 1)
            run = runs.get(item.run)
            if run is None or run.clock_us is None or item.kind != "live":
                continue
            lo_ms = (item.clock_us or run.since_us) // 1000 // MINUTE_MS * MINUTE_MS
            hi_ms = run.clock_us // 1000 // MINUTE_MS * MINUTE_MS + MINUTE_MS
            for instrument_id in run.subscribed:
                self.holes.record(connection, instrument_id, lo_ms, hi_ms, "batch lost")

    def _end_imports(self, connection: sa.Connection, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.kind != "import" or run.last_n is None or run.done < run.last_n:
                continue
            spans = [(i, since // 1000 // MINUTE_MS * MINUTE_MS) for i, since in run.subscribed.items()]
            if not any(self.minutes.open_left(connection, i, lo, run.hi_ms or lo) for i, lo in spans):
                self.feeds.end(connection, run.run)
