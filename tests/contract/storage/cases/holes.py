"""Coverage and holes."""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.history import Hole
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import holes
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case, hours

M = MINUTE_MS


def aged(found: list[Hole]) -> list[Hole]:
    """The holes with their ages in hours."""
    return [hole._replace(age_s=hours(hole.age_s)) for hole in found]


@case(holes.cover, coverage=(2, 3))
def cover(c: sa.Connection) -> object:
    holes.cover(c, ETH, EDGE, None)
    holes.cover(c, SOL, HAND + 9 * M, EDGE)
    holes.cover(c, SOL, HAND, HAND + M)
    holes.cover(c, 4, OLD, NOW, tf=Timeframe.D1)
    assert holes.covered(c, ETH) == [(OLD, None)]
    return holes.covered(c, SOL), holes.covered(c, 4, tf=Timeframe.D1)


@case(holes.covered)
def covered(c: sa.Connection) -> object:
    assert holes.covered(c, SOL) == [(HAND, HAND + 9 * M), (EDGE - DAY_MS, EDGE + DAY_MS), (LIVE, None)]
    return holes.covered(c, AAPL, tf=Timeframe.D1), holes.covered(c, 4)


@case(holes.live_since)
def live_since(c: sa.Connection) -> object:
    found = holes.live_since(c, [BTC, ETH, SOL, 4])
    assert found == {BTC: CLUSTERS[1][0], SOL: LIVE}
    return found, holes.live_since(c, [])


@case(holes.cover_live, coverage=(2, 3))
def cover_live(c: sa.Connection) -> None:
    holes.cover_live(c, {ETH: EDGE + DAY_MS, SOL: HAND, BTC: NOW, 4: LIVE})
    holes.cover_live(c, {})


@case(holes.last_known)
def last_known(c: sa.Connection) -> object:
    found = holes.last_known(c, {SOL: EDGE, BTC: OLD + 10 * M, ETH: OLD - 1, AAPL: NOW, THYAO: HAND, 4: NOW, MSFT: 0})
    assert found[SOL] == EDGE - M
    assert ETH not in found and 4 not in found
    return found, holes.last_known(c, {})


@case(holes.record_all, holes=(0, 3))
def record_all(c: sa.Connection) -> None:
    holes.record_all(
        c, [(BTC, LIVE + 6 * M, LIVE + 8 * M), (BTC, LIVE + 6 * M, LIVE + 10 * M), (4, OLD, EDGE)], "missing bars"
    )
    holes.record_all(c, [(BTC, LIVE + 6 * M, LIVE + 8 * M)], "cancel", again=True)
    holes.record_all(c, [], "missing bars")


@case(holes.extend_all, holes=(1, 3))
def extend_all(c: sa.Connection) -> int:
    first = holes.extend_all(
        c, [(BTC, LIVE + 9 * M, LIVE + 12 * M), (ETH, LIVE - 75 * M, LIVE - 60 * M), (4, OLD, EDGE)], "feed down"
    )
    assert first == 3
    assert holes.extend_all(c, [(BTC, LIVE + 9 * M, LIVE + 12 * M)], "feed down") == 0
    return holes.extend_all(c, [], "feed down")


@case(holes.record, holes=(0, 2))
def record(c: sa.Connection) -> object:
    found = [
        holes.record(c, SOL, HAND + 4 * M, HAND + 5 * M, "missing trades"),
        holes.record(c, SOL, HAND + 3 * M, HAND + 6 * M, "missing trades", ids=(117, 118)),
        holes.record(c, SOL, HAND + 3 * M, HAND + 6 * M, "missing trades", ids=(117, 121)),
        holes.record(c, 4, OLD, EDGE, "left"),
    ]
    assert found == [False, False, True, True]
    return found


@case(holes.open_holes, holes=(3, 3))
def open_holes(c: sa.Connection) -> object:
    found = holes.open_holes(c, due_only=False)
    assert [hole.id for hole in found] == [4, 1, 3, 6, 8, 2, 10]  # longest waiting first
    due, early = holes.open_holes(c, limit=3), holes.open_holes(c, before_ms=EDGE + 5 * M)
    assert [hole.id for hole in early] == [1, 3]
    others = holes.open_holes(c, due_only=False, resting=["binance", "yahoo"])
    assert [hole.id for hole in others] == [6]
    c.execute(sa.text("UPDATE holes SET found = now() - interval '99 hours', tried = NULL WHERE instrument_id = 1"))
    turns = holes.open_holes(c, due_only=False, limit=6)
    assert [hole.id for hole in turns] == [2, 4, 1, 6, 8, 3]  # one with many leaves the others their turn
    return aged(found), aged(due), aged(early), aged(others), aged(turns)


@case(holes.repaired, holes=(2, 2))
def repaired(c: sa.Connection) -> object:
    looked = {1: HAND + 5 * M, 2: LIVE + 30 * M, 3: EDGE + 4 * M, 5: LIVE, 999: LIVE}
    assert holes.repaired(c, looked) == 2  # the third reaches farther, the fifth was
    assert holes.repaired(c, {}) == 0
    return aged(holes.open_holes(c, due_only=False))


@case(holes.given_up, holes=(1, 1))
def given_up(c: sa.Connection) -> None:
    holes.given_up(c, [3, 7], "no source has it")


@case(holes.shrink, holes=(2, 2))
def shrink(c: sa.Connection) -> None:
    holes.shrink(c, [2, 8], LIVE + 7 * M)
    holes.shrink(c, [2, 5], LIVE)


@case(holes.bridge, holes=(1, 1))
def bridge(c: sa.Connection) -> object:
    found = holes.bridge(c, ["binance"])
    assert found == 1  # ETH's: run 13 still received it when run 11 began
    return found, holes.bridge(c, ["alpaca"])


@case(holes.failed, holes=(2, 2))
def failed(c: sa.Connection) -> object:
    holes.failed(c, [1, 2], "timed out")
    return aged(holes.open_holes(c))


@case(holes.around_gap)
def around_gap(c: sa.Connection) -> object:
    found = holes.around_gap(c, SOL, 116, 121)
    assert found == (HAND + 3 * M, HAND + 5 * M)
    gaps = [(ETH, 2500, 2505), (BTC, 1500, 1505), (SOL, 1, 2), (SOL, 144, 150), (SOL, 10**6, 10**7), (4, 5, 6)]
    return found, [holes.around_gap(c, *gap) for gap in gaps]


@case(holes.unverified)
def unverified(c: sa.Connection) -> object:
    assert holes.unverified(c, SOL, HAND, HAND + 10 * M) == 8
    return [holes.unverified(c, i, lo, lo + length * M) for i in (BTC, AAPL, THYAO) for lo, length, _ in CLUSTERS]


@case(holes.standing, instruments=(1, 1), feeds=(1, 1))
def standing(c: sa.Connection) -> object:
    c.execute(sa.text("UPDATE instruments SET active = false WHERE id = 9"))
    c.execute(sa.text("UPDATE feeds SET progress = now() - interval '9.5 hours' WHERE run = 12"))
    found = sorted(holes.standing(c, still_s=2 * 3600))
    assert found == [(SOL, LIVE + 4 * M), (AAPL, LIVE + 20 * M)]  # no run was ever heard of SOL
    return found, sorted(holes.standing(c, still_s=1))


@case(holes.missing_minutes)
def missing_minutes(c: sa.Connection) -> object:
    found = holes.missing_minutes(c, [SOL], HAND, HAND + 9 * M)
    assert found == [(SOL, HAND + 2 * M, HAND + 3 * M)]  # 10:04 is a known hole
    lo, hi = CLUSTERS[1][0], NOW
    return (
        found,
        holes.missing_minutes(c, [BTC, AAPL, ETH], lo, hi),
        holes.missing_minutes(c, [BTC, SOL], OLD, NOW, limit=3),
    )


@case(holes.empty_windows)
def empty_windows(c: sa.Connection) -> object:
    windows = [(lo + n * 5 * M, lo + (n * 5 + 3) * M) for lo, length, _ in CLUSTERS for n in range(-2, length // 5 + 2)]
    found = holes.empty_windows(c, AAPL, windows)
    assert (AAPL, CLUSTERS[3][0] - 10 * M, CLUSTERS[3][0] - 7 * M) in found
    known = (CLUSTERS[1][0] + 4 * M, CLUSTERS[1][0] + 9 * M)  # repaired more than a day ago
    return (
        found,
        holes.empty_windows(c, AAPL, [known]),
        holes.empty_windows(c, 4, windows),
        holes.empty_windows(c, AAPL, []),
    )


@case(holes.doubted)
def doubted(c: sa.Connection) -> object:
    minutes = [(BTC, LIVE + n * M) for n in range(12)] + [
        (SOL, HAND + 4 * M),
        (BTC, EDGE),
        (AAPL, CLUSTERS[3][0] + 5 * M),
    ]
    found = holes.doubted(c, minutes)
    assert found == {(SOL, HAND + 4 * M), *((BTC, LIVE + n * M) for n in range(5, 9))}
    return found, holes.doubted(c, [])


@case(holes.forget, holes=(1, 0))
def forget(c: sa.Connection) -> None:
    holes.forget(c)


@case(holes.held_ids)
def held_ids(c: sa.Connection) -> object:
    found = holes.held_ids(c)
    assert found == {SOL: [(116, 120)]}
    return found


@case(holes.exclusive)
def exclusive(c: sa.Connection) -> bool:
    assert holes.exclusive(c, 7099)
    return holes.exclusive(c, 7099)
