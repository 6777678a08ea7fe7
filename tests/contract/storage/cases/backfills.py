"""Backfills: asked for, claimed, taken up, advanced, let go; and what of a series is not verified."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.domain.history import Backfill
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import backfills
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case, hours_ago

M = MINUTE_MS
H = 60 * M


def aged(item: Backfill | None) -> Any:
    """The backfill with its wall-clock times as ages."""
    if item is None:
        return None
    lease_ms = None if item.lease_us is None else item.lease_us / 1000
    return (*item[:10], hours_ago(item.started_ms), hours_ago(item.updated_ms), hours_ago(lease_ms), item.empty_to_ms)


@case(backfills.create, backfills=(0, 2))
def create(c: sa.Connection) -> object:
    first = backfills.create(c, ETH, Timeframe.H1, OLD, EDGE)
    assert first == 1001
    return [
        aged(backfills.get(c, i)) for i in (first, backfills.create(c, SOL, Timeframe.M1, HAND, NOW, asked_by="daily"))
    ]


@case(backfills.create_all, backfills=(0, 3))
def create_all(c: sa.Connection) -> None:
    backfills.create_all(c, Timeframe.M5, [(BTC, OLD, EDGE), (ETH, HAND, NOW), (AAPL, LIVE, NOW)])
    backfills.create_all(c, Timeframe.M5, [])


@case(backfills.get)
def get(c: sa.Connection) -> object:
    assert backfills.get(c, 999) is None
    return [aged(backfills.get(c, i)) for i in range(1, 9)]


@case(backfills.recent)
def recent(c: sa.Connection) -> object:
    found = backfills.recent(c, limit=6)
    assert [item.id for item in found] == [5, 4, 3, 2, 1, 8]
    return [aged(item) for item in [*found, *backfills.recent(c, ids=[7, 2, 99])]]


@case(backfills.listed)
def listed(c: sa.Connection) -> object:
    at_work = backfills.listed(c, active_only=True, running_first=True)
    assert [each.backfill.id for each in at_work] == [3, 2, 5, 4, 1]
    pages = backfills.listed(c, limit=2), backfills.listed(c, before=7, limit=2), backfills.listed(c, ids=[7, 2, 99])
    assert [[each.backfill.id for each in page] for page in pages] == [[8, 7], [6, 5], [7, 2]]
    some = backfills.listed(c, exchange=at_work[0].exchange, symbol=at_work[0].symbol)
    assert at_work[0].backfill.id in [each.backfill.id for each in some]
    return [(aged(each.backfill), each.exchange, each.symbol) for part in (at_work, *pages, some) for each in part]


@case(backfills.at_work)
def at_work(c: sa.Connection) -> object:
    assert backfills.at_work(c) == (2, 5)
    return backfills.at_work(c)


@case(backfills.claim, backfills=(2, 2))
def claim(c: sa.Connection) -> list[int]:
    found = backfills.claim(c, most=3, stale_s=3600, retry_s=2 * 3600)
    assert found == [3, 5]  # the one whose worker is gone, then who waits longest; one is at work already
    assert backfills.claim(c, most=3, stale_s=3600, retry_s=2 * 3600) == []
    return found


@case(backfills.begin, backfills=(2, 2))
def begin(c: sa.Connection) -> object:
    taken = backfills.begin(c, 3, lease_s=5400)
    assert taken is not None
    assert backfills.begin(c, 1, lease_s=5400) is None  # what overlaps it is at work: it gives way
    assert backfills.begin(c, 6, lease_s=5400) is None
    return [aged(taken), *(aged(backfills.get(c, i)) for i in (1, 2, 6))]


@case(backfills.advance, backfills=(1, 1))
def advance(c: sa.Connection) -> object:
    taken = backfills.begin(c, 3, lease_s=5400)
    assert taken is not None
    on = backfills.advance(c, taken, cursor_ms=OLD + 2 * H, bars=60, lease_s=9000, empty_to_ms=OLD + M)
    assert on is not None
    assert (on.bars, on.cursor_ms, on.state) == (360, OLD + 2 * H, "running")
    assert backfills.advance(c, taken, cursor_ms=EDGE, bars=1, lease_s=9000) is None  # its lease is not the newest
    done = backfills.advance(c, on, cursor_ms=EDGE, bars=1, lease_s=9000)
    assert done is not None
    assert (done.state, done.lease_us) == ("done", None)
    return aged(on), aged(done)


@case(backfills.leave, backfills=(2, 2))
def leave(c: sa.Connection) -> object:
    first, second = (backfills.begin(c, i, lease_s=5400) for i in (3, 5))
    assert first is not None and second is not None
    backfills.leave(c, first, state="waiting", error="429", wait_s=9000)
    backfills.leave(c, second, state="failed", error="no key")
    backfills.leave(c, second, state="waiting")  # not its any more
    return [aged(backfills.get(c, i)) for i in (3, 5)]


@case(backfills.cancel, backfills=(2, 2))
def cancel(c: sa.Connection) -> object:
    return [backfills.cancel(c, i) for i in (1, 2, 6, 999)]


@case(backfills.empties)
def empties(c: sa.Connection) -> object:
    assert backfills.empties(c, SOL, Timeframe.M1) == [(HAND - DAY_MS, HAND)]
    return backfills.empties(c, BTC, Timeframe.M1), backfills.empties(c, ETH, Timeframe.M1)


@case(backfills.unverified)
def unverified(c: sa.Connection) -> object:
    found = backfills.unverified(c, SOL, Timeframe.M1, HAND, HAND + 10 * M, flats=True)
    assert found == [(HAND, HAND + 6 * M), (HAND + 7 * M, HAND + 8 * M), (HAND + 9 * M, HAND + 10 * M)]
    return found, {tf: backfills.unverified(c, BTC, tf, OLD - H, NOW, flats=True) for tf in Timeframe}


@case(backfills.unverified)
def doubtful(c: sa.Connection) -> object:
    spans = [(i, lo, lo + length * M) for i in (AAPL, THYAO) for lo, length, _ in CLUSTERS]
    found = {
        tf: [backfills.unverified(c, *span, flats=False) for span in _with(tf, spans)]
        for tf in (Timeframe.M1, Timeframe.D1)
    }
    assert (LIVE, LIVE + 20 * M) in found[Timeframe.M1][-1]  # the hole, where there are no flat bars
    return found


def _with(tf: Timeframe, spans: list[tuple[int, int, int]]) -> list[tuple[int, Timeframe, int, int]]:
    return [(i, tf, tf.floor(lo), tf.floor(hi) + tf.ms) for i, lo, hi in spans]


@case(backfills.revisions)
def revisions(c: sa.Connection) -> object:
    found = backfills.revisions(c, SOL, Timeframe.M1, HAND, HAND + 10 * M)
    assert sorted(found) == [HAND + 6 * M, HAND + 8 * M]
    return sorted(found.items()), [sorted(backfills.revisions(c, BTC, tf, OLD - H, NOW).items()) for tf in Timeframe]


@case(backfills.count)
def count(c: sa.Connection) -> object:
    found = [backfills.count(c, i, tf, OLD, NOW) for tf in Timeframe for i in (BTC, SOL, AAPL, THYAO)]
    assert found[1] == 2
    return found, backfills.count(c, BTC, Timeframe.M1, EDGE - 10 * M, EDGE + 10 * M)


@case(backfills.any_before)
def any_before(c: sa.Connection) -> object:
    assert backfills.any_before(c, SOL, Timeframe.M1, HAND + 1)
    assert not backfills.any_before(c, SOL, Timeframe.M1, HAND)
    return [backfills.any_before(c, i, tf, lo) for tf in Timeframe for i in (BTC, 4) for lo in (OLD, EDGE, NOW)]
