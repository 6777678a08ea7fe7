"""Up to where each instrument's feed is committed: the edge that closing and verification go by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from app.domain.feeds import Run
from app.domain.instruments import RULES, Exchange
from app.domain.timeframes import MINUTE_MS


class Edge(NamedTuple):
    """An instrument's newest connected stretch: [since, hi) in ms, minute-aligned, grace taken off."""

    since_ms: int
    hi_ms: int
    flat: bool  # the exchange's own series has a flat bar for a quiet minute


def edges_of(runs: Iterable[Run], *, grace_s: float) -> dict[int, Edge]:
    """Each subscribed instrument's edge, from the clocks of live runs."""
    edges: dict[int, Edge] = {}
    for run in runs:
        if run.kind != "live" or run.clock_us is None:
            continue
        flat = RULES[Exchange(run.exchange)].flat_bars
        hi_ms = int(run.clock_us // 1000 - grace_s * 1000) // MINUTE_MS * MINUTE_MS
        for instrument_id, since_us in run.subscribed.items():
            edge = Edge(since_us // 1000 // MINUTE_MS * MINUTE_MS, hi_ms, flat)
            if edge.hi_ms > edges.get(instrument_id, Edge(0, -1, False)).hi_ms:
                edges[instrument_id] = edge
    return edges
