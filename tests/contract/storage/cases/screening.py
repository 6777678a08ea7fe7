"""What all instruments are compared by, and whether the schema is new enough to be asked."""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import candles, catalog, revision, screening
from tests.contract.storage.bars import AAPL, BTC, ETH, LIVE, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case

ALL = (BTC, ETH, SOL, AAPL, THYAO, 999)


@case(screening.newest)
def newest(c: sa.Connection) -> object:
    found = {tf: screening.newest(c, ALL, tf, lo_ms=OLD, hi_ms=NOW) for tf in Timeframe}
    done = [bar for bar in candles.read_many(c, [BTC], Timeframe.M1, start_ms=OLD, end_ms=NOW) if bar.state]
    assert 0 <= done[-1].time_ms - found[Timeframe.M1][BTC]["time"] <= MINUTE_MS
    assert 999 not in found[Timeframe.M1]
    return found, screening.newest(c, ALL, Timeframe.M1, lo_ms=NOW, hi_ms=NOW + DAY_MS)


@case(screening.days)
def days(c: sa.Connection) -> object:
    found = screening.days(c, ALL, lo_ms=LIVE - DAY_MS, since_ms=LIVE, hi_ms=NOW)
    assert found
    return found, screening.days(c, [], lo_ms=OLD, since_ms=LIVE, hi_ms=NOW)


@case(screening.minutes)
def minutes(c: sa.Connection) -> object:
    since = {BTC: NOW - 5 * MINUTE_MS, SOL: NOW - 2 * MINUTE_MS, 999: OLD}
    found = screening.minutes(c, since, lo_ms=NOW - 30 * MINUTE_MS, hi_ms=NOW)
    assert all(bar.time_ms >= since[bar.instrument_id] for bar in found)
    assert found == sorted(found, key=lambda bar: (bar.instrument_id, bar.time_ms))
    return found


@case(screening.last_minutes)
def last_minutes(c: sa.Connection) -> object:
    found = screening.last_minutes(c, ALL, lo_ms=OLD, hi_ms=NOW)
    known = candles.read_many(c, list(found), Timeframe.M1, start_ms=OLD, end_ms=NOW)
    assert {i: bar.time_ms for i, bar in found.items()} == {bar.instrument_id: bar.time_ms for bar in known}
    return found


@case(catalog.set_decimals, instruments=(1, 1))
def set_decimals(c: sa.Connection) -> object:
    catalog.set_decimals(c, BTC, 5)
    return catalog.get(c, BTC)


@case(revision.require)
def require(c: sa.Connection) -> None:
    revision.require(c)
