"""The ledger, sessions, what polling keeps, and what pages read of it all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.domain.feeds import Stream
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.storage import ledger, quality, sessions, settled
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL, THYAO, at
from tests.contract.storage.registry import case, hours_ago

M = MINUTE_MS


@case(ledger.take, ledger=(1, 3))
def ledger_take(c: sa.Connection) -> object:
    wanted = {
        Stream(SOL, 0): [(110, 118), (143, 160)], Stream(BTC, 0): [(3000, 3010)], Stream(AAPL, 9): [(1, 5)],
        Stream(THYAO, 0): [(5, 6), (8, 9)],
    }  # fmt: skip
    known = ledger.take(c, wanted)
    assert known == {Stream(SOL, 0): [(110, 116), (143, 144), (150, 155)]}
    return known, ledger.take(c, {})


@case(ledger.extend, ledger=(1, 1))
def ledger_extend(c: sa.Connection) -> object:
    ledger.extend(c, {Stream(SOL, 0): [(116, 118), (144, 150)], Stream(4, 0): [(1, 2)]})
    ledger.extend(c, {})
    return ledger.gaps(c, after=(ETH, 0))


@case(ledger.add, ledger=(1, 2))
def ledger_add(c: sa.Connection) -> None:
    ledger.add(c, SOL, 116, 121)
    ledger.add(c, 4, 7, 9)


@case(ledger.add_all, ledger=(2, 3))
def ledger_add_all(c: sa.Connection) -> None:
    ledger.add_all(c, {SOL: [(116, 118), (119, 121)], BTC: [(1500, 1505)], 4: [(1, 2)]})


@case(ledger.gaps)
def ledger_gaps(c: sa.Connection) -> object:
    found = ledger.gaps(c)
    assert found == [(BTC, 1500, 1505), (BTC, 2000, 2010), (SOL, 116, 121), (SOL, 144, 150)]
    return found, ledger.gaps(c, after=(BTC, 1500), limit=2)


@case(ledger.fragments)
def ledger_fragments(c: sa.Connection) -> object:
    found = ledger.fragments(c)
    assert found == [(MSFT, 8, 3000)]
    return found


@case(ledger.forget, ledger=(3, 1))
def ledger_forget(c: sa.Connection) -> object:
    ledger.take(c, {Stream(AAPL, 11): [(1, 5)]})  # a run that goes on
    found = [ledger.forget(c, limit=2) for _ in range(3)]
    assert found == [2, 1, 0]
    return found


@case(sessions.put, sessions=(1, 2))
def sessions_put(c: sa.Connection) -> int:
    day, later = at("2019-10-28"), at("2019-12-02")
    longer = Session(day, day + 7 * 60 * M, day + 15 * 60 * M)
    found = sessions.put(
        c, "XIST", [longer, Session(later, later + 60 * M, later + 90 * M), sessions.read(c, "XIST", OLD, OLD + 1)[0]]
    )
    assert found == 2
    return found + sessions.put(c, "XIST", [])


@case(sessions.read)
def sessions_read(c: sa.Connection) -> object:
    found = sessions.read(c, "XNYS", at("2019-11-01"), at("2019-11-02"))
    assert [session.date_ms for session in found] == [at("2019-10-31"), at("2019-11-01")]
    return (
        found,
        sessions.read(c, "XIST", OLD, NOW),
        sessions.read(c, "24/7", EDGE, EDGE + DAY_MS),
        sessions.read(c, "XPAR", OLD, NOW),
    )


@case(sessions.last)
def sessions_last(c: sa.Connection) -> object:
    assert sessions.last(c, "XNYS") == at("2019-11-08")
    return sessions.last(c, "XPAR")


@case(settled.until)
def settled_until(c: sa.Connection) -> object:
    found = settled.until(c, [AAPL, THYAO, BTC])
    assert found == {AAPL: LIVE + 38 * M, THYAO: CLUSTERS[3][0] + 60 * M}
    return found, settled.until(c, [])


@case(settled.forward, settled=(1, 2))
def settled_forward(c: sa.Connection) -> None:
    settled.forward(c, THYAO, NOW)
    settled.forward(c, AAPL, OLD)
    settled.forward(c, 14, NOW)


@case(settled.back, settled=(1, 1))
def settled_back(c: sa.Connection) -> object:
    settled.back(c, THYAO, OLD)
    settled.back(c, AAPL, NOW)
    settled.back(c, 14, OLD)
    return settled.until(c, [AAPL, THYAO, 14])


@case(settled.extend, holes=(1, 2))
def settled_extend(c: sa.Connection) -> object:
    stretches = [(THYAO, LIVE - 5 * M, LIVE + 3 * M), (14, OLD, EDGE)]
    found = settled.extend(c, stretches, "not polled", error="timed out")
    assert found == 2
    return found, settled.extend(c, stretches, "not polled"), settled.extend(c, [], "not polled")


@case(settled.filled, holes=(3, 3))
def settled_filled(c: sa.Connection) -> None:
    settled.filled(c, THYAO, LIVE - 5 * M, LIVE + 3 * M, "not polled")  # its start
    settled.filled(c, BTC, LIVE, LIVE + 30 * M, "feed down")  # the whole
    settled.filled(c, AAPL, CLUSTERS[3][0] + 6 * M, NOW, "correction")  # its end
    settled.filled(c, ETH, OLD, NOW, "correction")


@case(settled.alone, by_engine=True)
def settled_alone(engine: sa.Engine) -> object:
    found = []
    for _ in range(2):  # it was given back
        with settled.alone(engine, 7098) as held:
            found.append(held)
    assert found == [True, True]
    return found


@case(settled.span)
def settled_span(c: sa.Connection) -> object:
    assert settled.span(c, "XPAR") is None
    return settled.span(c, "XNYS")


@case(settled.drop_others, sessions=(2, 0))
def settled_drop_others(c: sa.Connection) -> int:
    return settled.drop_others(
        c, "XIST", [at("2019-10-30"), at("2019-11-01")], lo_ms=at("2019-10-27"), hi_ms=at("2019-11-02")
    )


@case(settled.ask_daily, backfills=(1, 12), candles_1d=(2, 2))
def settled_ask_daily(c: sa.Connection) -> object:
    c.execute(sa.text("UPDATE candles_1d SET state = 2 WHERE instrument_id = 6 AND origin = 1"))
    stocks = settled.ask_daily(c, "alpaca", ended_ms=EDGE + 10 * DAY_MS, days=5)
    assert len(stocks) == 7  # all of them: none has its newest day from the source
    return (
        stocks,
        settled.ask_daily(c, "yahoo", ended_ms=EDGE, days=30),
        settled.ask_daily(c, "alpaca", ended_ms=EDGE + 10 * DAY_MS, days=5),
    )


def _aged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wall = {"found", "repaired", "tried", "next_try"}
    return [{key: hours_ago(value) if key in wall else value for key, value in row.items()} for row in rows]


@case(quality.gaps)
def quality_gaps(c: sa.Connection) -> object:
    ids = [BTC, SOL, AAPL, ETH]
    found = [
        quality.gaps(c, ids),
        quality.gaps(c, ids, lo_ms=EDGE, hi_ms=LIVE),
        quality.gaps(c, ids, limit=1),
        quality.gaps(c, []),
    ]
    assert [gap.start_ms for gap in found[0]] == [HAND + 4 * M, LIVE - 90 * M, LIVE + 5 * M, NOW - 3 * M]
    return [[(*gap[:4], hours_ago(gap.found_ms)) for gap in part] for part in found]


@case(quality.holes)
def quality_holes(c: sa.Connection) -> object:
    found = quality.holes(c, exchange="binance", open_only=True)
    assert [row["id"] for row in found] == [10, 4, 3, 2, 1]
    others = quality.holes(c, open_only=True, skip=["binance"])
    assert others and {row["exchange"] for row in others} <= {"alpaca", "yahoo"}
    return (
        _aged(found),
        _aged(quality.holes(c, symbol="AAPL")),
        _aged(quality.holes(c, before=9, limit=3)),
        _aged(others),
    )


@case(quality.differences)
def quality_differences(c: sa.Connection) -> object:
    found = quality.differences(c)
    assert [row["id"] for row in found] == [5, 4, 3, 2, 1]
    return (
        _aged(found),
        _aged(quality.differences(c, exchange="alpaca")),
        _aged(quality.differences(c, symbol="BTC/USDT", before=5, limit=1)),
    )


@case(quality.verification)
def quality_verification(c: sa.Connection) -> object:
    return [quality.verification(c, since) for since in (0, HAND, EDGE - 10 * M, LIVE, NOW)]


@case(quality.last_trades)
def quality_last_trades(c: sa.Connection) -> object:
    return [quality.last_trades(c, since_ms=since) for since in (0, NOW - 60 * M, NOW + DAY_MS)]


@case(quality.clocks)
def quality_clocks(c: sa.Connection) -> object:
    return quality.clocks(c)


@case(quality.waiting_holes)
def quality_waiting_holes(c: sa.Connection) -> object:
    found = [quality.waiting_holes(c, late_s=late) for late in (0, 3600, 10**7)]
    assert found[0][0] == found[2][0] > 0 == found[2][1]
    others = quality.waiting_holes(c, late_s=0, skip=["binance"])
    assert 0 < others[0] < found[0][0]
    return found, others


@case()
def views(c: sa.Connection) -> object:
    """What people who write SQL read; the wall-clock stamp of a candle aside."""
    found: dict[str, list[Any]] = {}
    for view, order in (("candles", "1, 2, 3, 5"), ("indicators", "1, 2, 3, 5"), ("quality_1h", "1, 2")):
        rows = c.execute(sa.text(f"SELECT * FROM {view} ORDER BY {order}")).mappings()
        found[view] = [{name: value for name, value in row.items() if name != "updated"} for row in rows]
    hours = [tuple(row.values())[2:] for row in found["quality_1h"] if row["instrument_id"] == SOL]
    assert hours == [(8, 7, 2, 1, 1, 2, 29), (1, 1, 0, 0, 0, 0, 4), (1, 1, 0, 0, 0, 0, 4), (3, 1, 0, 0, 0, 0, 9)]
    return found
