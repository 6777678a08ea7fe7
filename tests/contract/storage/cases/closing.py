"""Closing: what is due, what never had a price, quiet minutes at the edge, and longer bars that are over."""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.outbox import Due
from app.domain.timeframes import MINUTE_MS, ROLLUPS, Timeframe
from app.storage import closing
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case

M = MINUTE_MS


@case(closing.oldest_open)
def oldest_open(c: sa.Connection) -> object:
    everything = [BTC, ETH, SOL, AAPL, MSFT, THYAO]
    assert closing.oldest_open(c, everything, from_ms=0) == HAND + 5 * M
    assert closing.oldest_open(c, [SOL], from_ms=HAND + 6 * M) == LIVE + 2 * M
    assert closing.oldest_open(c, [THYAO], from_ms=0) is None
    return [closing.oldest_open(c, everything, from_ms=lo) for lo, _, _ in CLUSTERS]


@case(closing.close, candles_1m=(9, 9), touched=(0, 3))
def close_the_newest_minutes(c: sa.Connection) -> int:
    idle = 2 * 3600.0
    due = [
        Due(SOL, LIVE, NOW, 0),
        Due(AAPL, LIVE, NOW - 6 * M, idle),
        Due(BTC, LIVE, NOW, idle),
        Due(ETH, EDGE, NOW, 5 * idle),
    ]
    return closing.close(c, due, lo_ms=LIVE)


@case(closing.close, candles_1m=(1, 1), touched=(0, 1))
def close_in_a_compressed_chunk(c: sa.Connection) -> int:
    found = closing.close(c, [Due(SOL, HAND, NOW - 60 * M, 0), Due(BTC, OLD, LIVE, 0)], lo_ms=HAND)
    assert found == 1
    return found


@case(closing.close)
def close_nothing(c: sa.Connection) -> int:
    return closing.close(c, [], lo_ms=OLD) + closing.close(c, [Due(SOL, OLD, HAND, 0)], lo_ms=OLD)


@case(closing.drop_unpriced, candles_1m=(18, 0))
def drop_unpriced(c: sa.Connection) -> int:
    return closing.drop_unpriced(c, {AAPL: NOW, MSFT: EDGE, SOL: NOW}, lo_ms=OLD) + closing.drop_unpriced(
        c, {}, lo_ms=OLD
    )


@case(closing.settle, settled=(1, 2))
def settle(c: sa.Connection) -> int:
    moved = closing.settle(c, {AAPL: LIVE + 45 * M, MSFT: LIVE, 10: NOW})
    assert moved == 2  # MSFT is further already
    return moved + closing.settle(c, {})


@case(closing.ripen, touched=(0, 151))
def ripen(c: sa.Connection) -> int:
    first = closing.ripen(c)
    assert first > 0
    assert closing.ripen(c) == 0  # what is marked waits its turn
    return first


@case(closing.ripen, touched=(0, 43))
def ripen_of_late(c: sa.Connection) -> int:
    return closing.ripen(c, everything=False)


@case(closing.whole)
def whole(c: sa.Connection) -> object:
    found = {}
    for tf in ROLLUPS:
        starts = {tf.floor(lo + place * M) for lo, length, _ in CLUSTERS for place in range(0, length, 5)}
        found[tf] = closing.whole(c, tf, [(i, t) for i in (AAPL, MSFT, THYAO, SOL) for t in starts])
    assert (AAPL, CLUSTERS[2][0]) in found[Timeframe.M5]
    return found, closing.whole(c, Timeframe.H1, [])


@case(closing.trailing_flats, candles_1m=(0, 8), touched=(0, 2))
def trailing_flats(c: sa.Connection) -> int:
    wanted = [(SOL, LIVE, LIVE + 10 * M), (ETH, NOW, NOW + 5 * M), (MSFT, LIVE - 10 * M, LIVE)]
    made = closing.trailing_flats(c, wanted, lo_ms=LIVE - 10 * M, hi_ms=NOW + 5 * M)
    assert made == 6  # SOL: 09:34 … 09:39 after its last bar
    made += closing.trailing_flats(c, [(SOL, HAND, HAND + 33 * M)], lo_ms=HAND, hi_ms=HAND + 33 * M)
    assert made == 8
    return made + closing.trailing_flats(c, [], lo_ms=OLD, hi_ms=NOW)


@case(closing.trailing_flats, candles_1m=(0, 33), touched=(0, 2))
def trailing_flats_over_the_border(c: sa.Connection) -> int:
    lo_ms, hi_ms = EDGE - 10 * M, EDGE + 2 * M
    return closing.trailing_flats(
        c, [(SOL, lo_ms, hi_ms), (BTC, lo_ms, EDGE + 60 * M)], lo_ms=lo_ms, hi_ms=EDGE + 60 * M
    )


@case(closing.open_left)
def open_left(c: sa.Connection) -> object:
    found = [closing.open_left(c, i, lo, NOW) for i in (BTC, SOL, AAPL, THYAO) for lo in (OLD, EDGE)]
    assert found[2:4] == [3, 2]
    return found
