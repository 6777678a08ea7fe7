"""The exchange's own bars: kept, compared, looked for, forgotten."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from app.domain.official import OfficialBar
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.domain.verification import Difference
from app.storage import official
from tests.contract.storage.bars import AAPL, BTC, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL
from tests.contract.storage.registry import case

M = MINUTE_MS


def word(
    instrument: int,
    time_ms: int,
    close: float,
    tf: Timeframe = Timeframe.M1,
    *,
    revised: bool = False,
    ids: bool = True,
) -> OfficialBar:
    """What an exchange says of a bar."""
    sums = (Decimal("1.25000000"), Decimal("2.5"), Decimal(0))
    first, last = (5, 9) if ids else (None, None)
    return OfficialBar(instrument, tf, time_ms, 1.0, 9.0, 0.5, close, *sums, 5, first, last, revised)


@case(official.put, official_1m=(2, 4), official_rollups=(0, 2))
def put(c: sa.Connection) -> object:
    words = [
        word(SOL, HAND, 1), word(SOL, HAND, 2, revised=True), word(SOL, HAND, 3),  # the revised one stays
        word(SOL, LIVE, 4),  # no first word in place of a revised one
        word(SOL, LIVE + M, 5, ids=False), word(ETH, EDGE, 6), word(BTC, EDGE - M, 7),
        word(BTC, OLD, 8, Timeframe.M5), word(BTC, OLD + 10 * M, 8, Timeframe.M5), word(AAPL, OLD, 8, Timeframe.D1),
    ]  # fmt: skip
    official.put(c, words)
    official.put(c, [])
    found = official.get(c, [(SOL, HAND), (SOL, LIVE), (SOL, LIVE + M), (ETH, EDGE)])
    assert [bar.close for bar in found.values()] == [6, 2, 31, 5]
    return found


@case(official.closed, official_1m=(4, 0))
def closed_and_live(c: sa.Connection) -> object:
    c.execute(sa.text("DELETE FROM official_1m WHERE time < '2019-11-01'"))
    found = official.closed(c, patience_s=2 * 3600, limit=10)
    assert [bar.time_ms for bar in found] == [LIVE, LIVE + 2 * M]  # the second is open, its official bar waits for long
    return found


@case(official.closed)
def closed_in_a_compressed_chunk(c: sa.Connection) -> object:
    found = official.closed(c, patience_s=2 * 3600, limit=100)
    assert [bar.time_ms for bar in found if bar.instrument_id == SOL] == [
        LIVE,
        LIVE + 2 * M,
        HAND,
    ]  # the newest day first
    return found, official.closed(c, patience_s=0, limit=2)


@case(official.closed, official_1m=(9, 0))
def closed_without_any(c: sa.Connection) -> object:
    c.execute(sa.text("DELETE FROM official_1m"))
    return official.closed(c, patience_s=0, limit=10), official.absent(c, {SOL: NOW}, patience_s=0, limit=10)


@case(official.absent)
def absent(c: sa.Connection) -> object:
    found = official.absent(c, {SOL: LIVE + 2 * M, ETH: LIVE}, patience_s=24 * 3600, limit=10)
    assert found == [(SOL, LIVE + M), (SOL, HAND + 4 * M)]  # ETH's lies outside coverage
    return found, official.absent(c, {}, patience_s=3600, limit=2)


@case(official.get)
def get(c: sa.Connection) -> object:
    found = official.get(c, [(SOL, LIVE), (SOL, HAND), (SOL, HAND + M), (AAPL, EDGE - 5 * M)])
    assert list(found) == [(SOL, HAND), (SOL, LIVE), (AAPL, EDGE - 5 * M)]
    return found, official.get(c, [])


@case(official.done, official_1m=(2, 0))
def done(c: sa.Connection) -> None:
    official.done(c, [(SOL, LIVE), (SOL, HAND), (SOL, HAND + M)])
    official.done(c, [])


@case(official.rollups)
def rollups(c: sa.Connection) -> object:
    return {tf: official.rollups(c, tf, limit=10) for tf in Timeframe}


@case(official.rollups_done, official_rollups=(1, 0))
def rollups_done(c: sa.Connection) -> None:
    official.rollups_done(c, Timeframe.M5, [(BTC, OLD), (BTC, OLD - 5 * M), (SOL, OLD)])
    official.rollups_done(c, Timeframe.H1, [])


@case(official.note, differences=(0, 3))
def note(c: sa.Connection) -> None:
    ours, theirs = {"open": "1.0"}, {"open": "2.0"}
    rows = [
        Difference(SOL, Timeframe.M1, HAND, ("open", "volume"), ours, theirs),
        Difference(SOL, Timeframe.H1, LIVE, ("missing",), ours, None),
        Difference(BTC, Timeframe.M1, OLD, ("open",), ours, theirs),
    ]  # fmt: skip
    official.note(c, rows, "history")
    official.note(c, [], "stream")


@case(official.unverified)
def unverified(c: sa.Connection) -> object:
    found = official.unverified(c, lo_ms=OLD, hi_ms=NOW, quiet_s=2 * 3600, resting=[MSFT], limit=10)
    assert (SOL, HAND, LIVE) in found
    parts = [
        official.unverified(c, lo_ms=EDGE - 9 * M, hi_ms=EDGE + DAY_MS, quiet_s=0, resting=[], limit=n) for n in (1, 9)
    ]
    return found, parts, official.unverified(c, lo_ms=OLD, hi_ms=NOW, quiet_s=5 * 3600, resting=[], limit=9)


@case(official.unchecked)
def unchecked(c: sa.Connection) -> object:
    found = official.unchecked(c, ["alpaca", "yahoo"], every_s=60, resting=[], limit=10)
    assert [row[0] for row in found][:1] == [AAPL]  # never asked about: from where it is claimed
    return found, official.unchecked(c, ["alpaca"], every_s=1e9, resting=[AAPL], limit=10)


@case(official.checked, settled=(1, 1))
def checked(c: sa.Connection) -> None:
    official.checked(c, AAPL, LIVE)
    official.checked(c, MSFT, OLD)  # never back
    official.checked(c, BTC, OLD)


@case(official.forget, official_1m=(1, 0), official_rollups=(1, 0), differences=(1, 0))
def forget(c: sa.Connection) -> None:
    official.forget(c)
