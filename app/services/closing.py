"""Closing: each second, what the feeds' clocks have passed is closed, made whole with flat bars and rolled up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.feeds import Run, Skipped
from app.domain.instruments import RULES, Exchange
from app.domain.outbox import Due
from app.domain.timeframes import MINUTE_MS
from app.services.ports import Feeds, Holes, Minutes, Publisher

FAR_MS = 253_402_300_740_000


class Edge(NamedTuple):
    """Up to where an instrument's feed is committed: [since, clock) in ms, minute-aligned, grace taken off."""

    since_ms: int
    hi_ms: int
    flat: bool  # the exchange's own series has a flat bar for a quiet minute


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

    def run(self) -> int:
        """Folds the clocks, closes what is due, adds flat bars at the edge; returns how many bars closed."""
        with self.engine.begin() as connection:
            self._skipped(connection, self.feeds.fold(connection, wait_s=self.wait_s))
        with self.engine.begin() as connection:
            runs = self.feeds.runs(connection)
            edges = self._edges(runs)
            closed = self._close(connection, runs, edges)
            self._flats(connection, edges)
            self._end_imports(connection, runs)
        return closed

    def _edges(self, runs: Iterable[Run]) -> dict[int, Edge]:
        """Each subscribed instrument's newest connected stretch."""
        edges: dict[int, Edge] = {}
        for run in runs:
            if run.kind != "live" or run.clock_us is None:
                continue
            flat = RULES[Exchange(run.exchange)].flat_bars
            hi_ms = int(run.clock_us // 1000 - self.grace_s * 1000) // MINUTE_MS * MINUTE_MS
            for instrument_id, since_us in run.subscribed.items():
                edge = Edge(since_us // 1000 // MINUTE_MS * MINUTE_MS, hi_ms, flat)
                if edge.hi_ms > edges.get(instrument_id, Edge(0, -1, False)).hi_ms:
                    edges[instrument_id] = edge
        return edges

    def _close(self, connection: sa.Connection, runs: Iterable[Run], edges: dict[int, Edge]) -> int:
        lo_ms = self.minutes.oldest_open(connection)
        if lo_ms is None:
            return 0
        due = [Due(instrument_id, lo_ms, edge.hi_ms, 0.0) for instrument_id, edge in edges.items()]
        for run in runs:
            if run.kind == "import" and run.hi_ms is not None:
                for instrument_id, since_us in run.subscribed.items():
                    hi_ms = min(run.hi_ms + MINUTE_MS, edges[instrument_id].hi_ms if instrument_id in edges else FAR_MS)
                    start_ms = since_us // 1000 // MINUTE_MS * MINUTE_MS
                    due.append(Due(instrument_id, start_ms, hi_ms, self.import_idle_s))
        return int(self.minutes.close(connection, [item for item in due if item.hi_ms > item.lo_ms], lo_ms=lo_ms))

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
