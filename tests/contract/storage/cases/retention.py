"""How long bars are kept, and what is let go."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import holes, retention
from tests.contract.storage.bars import BTC, CLUSTERS, EDGE, HAND, NOW, OLD, SOL, THYAO, at
from tests.contract.storage.registry import case

M = MINUTE_MS


@case(retention.cutoffs)
def cutoffs(c: sa.Connection) -> object:
    today = int(time.time() * 1000) // DAY_MS
    found = retention.cutoffs(c)
    assert found.pop(Timeframe.M1) == at("2019-10-20")
    assert retention.cutoffs(c, hold=True)[Timeframe.M1] == at("2019-10-20")
    assert abs(today - found[Timeframe.M5] // DAY_MS - 365) <= 1  # at midnight the one is asked a day later
    return sorted(found)


@case(retention.settings)
def settings(c: sa.Connection) -> object:
    return retention.settings(c)


@case(retention.put, retention=(2, 3))
def put(c: sa.Connection) -> object:
    retention.put(c, {"1m": 30, "1d": 9000, "4h": None, "5m": 365})
    return retention.settings(c)


@case(retention.keep_from, retention=(1, 1))
def keep_from(c: sa.Connection) -> object:
    retention.keep_from(c, [Timeframe.M1, Timeframe.M5], at("2019-10-23"))
    return retention.settings(c)


@case(retention.let_go, coverage=(7, 7), holes=(2, 1), official_1m=(4, 0), backfills=(2, 2))
def let_go(c: sa.Connection) -> None:
    retention.let_go(c, Timeframe.M1, at("2019-10-31"))
    retention.let_go(c, Timeframe.D1, at("2019-10-12"))


@case(holes.let_go, holes=(2, 1))
def let_go_of_holes(c: sa.Connection) -> None:
    holes.let_go(c, EDGE)


@case(retention.oldest)
def oldest(c: sa.Connection) -> object:
    found = {tf: retention.oldest(c, tf, EDGE) for tf in Timeframe}
    assert (SOL, HAND) in found[Timeframe.M1]
    return found, retention.oldest(c, Timeframe.M1, OLD)


def _delete(tf: Timeframe) -> Any:
    def body(c: sa.Connection) -> object:
        gone = [retention.delete(c, tf, i, OLD - DAY_MS, EDGE + 10 * M) for i in (BTC, THYAO, 4)]
        return [
            *gone,
            retention.delete(c, tf, SOL, HAND + M, HAND + 6 * M),
            retention.delete(c, tf, BTC, CLUSTERS[3][0], NOW),
        ]

    body.__name__ = f"delete_{tf.value}"
    return body


# Timeframe → bars and indicators that go.
for _tf, _gone in zip(Timeframe, ((342, 225), (86, 49), (30, 15), (14, 7), (10, 6), (14, 5)), strict=True):
    _names = (f"candles_{_tf.value}", f"indicators_{_tf.value}")
    _changed = {name: (gone, 0) for name, gone in zip(_names, _gone, strict=True)}
    case(retention.delete, changed=_changed)(_delete(_tf))
