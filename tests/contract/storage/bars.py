"""The bars both databases start with: five weeks around a border that hypertables of every timeframe have in common.

One small series is written by hand, for exact expectations; four are drawn from a seed, for breadth. Rows are
mappings of column to value, as the tables have them; times in ms here, made timestamps by `filling`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.domain.bars import UNPRICED
from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe

Row = dict[str, Any]

BTC, ETH, SOL, AAPL, MSFT, THYAO = 1, 2, 3, 6, 9, 13  # as the first migration numbers its watchlist


def at(text: str) -> int:
    """The UTC time as ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


EDGE = at("2019-10-31 00:00")  # chunks of 7, 14, 28, 91, 364 and 3640 days all have a border here
# What is drawn: (start, minutes, how many of the last are open). They cross a day, two borders, and end live.
CLUSTERS = (
    (at("2019-10-11 22:45"), 90, 0),
    (at("2019-10-23 23:30"), 60, 0),
    (EDGE - 30 * MINUTE_MS, 60, 0),
    (at("2019-11-01 14:30"), 60, 0),
    (at("2019-11-08 14:30"), 50, 10),
)
OLD, LIVE = CLUSTERS[0][0], CLUSTERS[-1][0]
HAND = at("2019-10-18 10:00")  # the series by hand, in a chunk that is compressed
NOW = LIVE + 50 * MINUTE_MS


def minute(instrument: int, time_ms: int, prices: Sequence[float], count: int, **facts: Any) -> Row:
    """A traded 1m bar; `ids` are its first and last."""
    first, last = facts.pop("ids", (0, 0))
    volume = facts.pop("volume", Decimal(count) * Decimal("0.125"))
    row: Row = {
        "instrument_id": instrument, "time": time_ms, "open": prices[0], "high": prices[1], "low": prices[2],
        "close": prices[3], "volume": volume, "quote_volume": volume * Decimal(repr(prices[3])),
        "taker_buy_volume": volume / 2, "trade_count": count,
        "open_time": time_ms * 1000 + 1_000_000, "open_seq": first,
        "close_time": time_ms * 1000 + 59_000_000, "close_seq": last, "state": 1, "revision": 0, "origin": 0,
        "updated": 3.5,
    }  # fmt: skip
    return row | facts


def flat(instrument: int, time_ms: int, close: float, **facts: Any) -> Row:
    """A quiet minute."""
    edges = {"open_time": time_ms * 1000, "close_time": time_ms * 1000}
    return minute(instrument, time_ms, [close] * 4, 0, volume=Decimal(0), origin=3, **edges) | facts


def unpriced(instrument: int, time_ms: int, count: int) -> Row:
    """A minute that only had prints without a price."""
    facts = {"open_time": UNPRICED, "open_seq": UNPRICED, "close_time": -1, "close_seq": -1}
    return minute(instrument, time_ms, (0.0, float("-inf"), float("inf"), 0.0), count, state=0, **facts)


def by_hand() -> list[Row]:
    """SOL/USDT: traded and flat minutes, one that ids prove quiet, one missing, one open, some verified."""
    m = MINUTE_MS
    return [
        minute(SOL, HAND, (10, 12, 9, 11), 10, ids=(101, 110)),
        flat(SOL, HAND + m, 11.0),
        # 10:02 has no row: ids 110 and 111 prove that it was quiet
        minute(SOL, HAND + 3 * m, (11.5, 12, 11, 12), 5, ids=(111, 115)),
        # 10:04 is missing: so are the ids 116 to 120
        minute(SOL, HAND + 5 * m, (13, 13, 13, 13), 1, ids=(121, 121), state=0),
        minute(SOL, HAND + 6 * m, (13.5, 14, 13, 13.25), 8, ids=(122, 129), state=2, revision=1),
        flat(SOL, HAND + 7 * m, 12.75),  # the close before it was revised
        minute(SOL, HAND + 8 * m, (13, 13, 12, 12), 2, ids=(130, 131), state=2, origin=1),
        minute(SOL, EDGE - m, (20, 21, 19, 20), 4, ids=(132, 135)),
        minute(SOL, EDGE + 2 * m, (20, 22, 20, 22), 4, ids=(136, 139)),
        minute(SOL, LIVE, (30, 31, 29, 30), 4, ids=(140, 143)),
        minute(SOL, LIVE + 2 * m, (30, 32, 30, 31), 4, ids=(150, 153), state=0, updated=1.5),
        minute(SOL, LIVE + 3 * m, (31, 31, 31, 31), 1, ids=(154, 154), state=0),
    ]


def late() -> list[Row]:
    """Bars that come when their chunks are compressed already: rows beside the compressed ones."""
    return [
        minute(SOL, HAND + 30 * MINUTE_MS, (14, 15, 13, 14), 3, ids=(160, 162)),
        minute(ETH, HAND, (1e-8, 2e-8, 1e-8, 1.5e-8), 7, ids=(1, 7), volume=Decimal("90000000000000.00000001")),
    ]


def numbered(instrument: int) -> Iterator[Row]:
    """A series whose trade ids have no gaps but those of missing trades; quiet minutes are flat."""
    chance = random.Random(instrument)
    number, close = 1000 * instrument, chance.uniform(1, 9000)
    for place, (lo_ms, length, still_open) in enumerate(CLUSTERS):
        number += 7  # nobody knows how quiet it was since the stretch before
        for time_ms in range(lo_ms, lo_ms + length * MINUTE_MS, MINUTE_MS):
            last = time_ms >= lo_ms + (length - still_open) * MINUTE_MS
            state = 0 if last else 2 if place == 0 else chance.choice((1, 1, 1, 2))
            dice = chance.random() if time_ms > lo_ms else 0
            if dice < 0.7:
                count = chance.randrange(1, 40)
                prices = sorted(round(close * chance.uniform(0.999, 1.001), 8) for _ in range(4))
                prices = [prices[1], prices[3], prices[0], prices[2]]
                volume = Decimal(chance.randrange(1, 10**12)).scaleb(-8)
                stamp = chance.choice((1.5, 2.5)) if last else 3.5
                yield minute(
                    instrument, time_ms, prices, count, ids=(number, number + count - 1), volume=volume, state=state,
                    revision=chance.choice((0, 0, 0, 2)), updated=stamp,
                )  # fmt: skip
                number, close = number + count, prices[3]
            elif dice < 0.85 and not last:
                yield flat(instrument, time_ms, close, state=state)
            elif dice > 0.94:
                number += 5


def sparse(instrument: int) -> Iterator[Row]:
    """A stock of a stream: a quiet minute has no bar, and some only have prints without a price."""
    chance = random.Random(instrument)
    close = chance.uniform(50, 300)
    for place, (lo_ms, length, still_open) in enumerate(CLUSTERS):
        for time_ms in range(lo_ms, lo_ms + length * MINUTE_MS, MINUTE_MS):
            last = time_ms >= lo_ms + (length - still_open) * MINUTE_MS
            dice, count = chance.random(), chance.randrange(1, 60)
            if dice < 0.6:
                prices = sorted(round(close * chance.uniform(0.99, 1.01), 4) for _ in range(4))
                state = 0 if last else chance.choice((1, 2))
                ids = (chance.randrange(1, 10**15), chance.randrange(1, 10**15))
                yield minute(
                    instrument, time_ms, [prices[1], prices[3], prices[0], prices[2]], count, ids=ids, state=state
                )
                close = prices[2]
            elif dice < 0.68 and place in (1, 4):
                yield unpriced(instrument, time_ms, count)


def polled(instrument: int) -> Iterator[Row]:
    """A stock of a source without a stream: its own bars, verified as they come, some without any trade."""
    chance = random.Random(instrument)
    for lo_ms, length, _ in CLUSTERS:
        for time_ms in range(lo_ms, lo_ms + length * MINUTE_MS, MINUTE_MS):
            if chance.random() < 0.5:
                volume = Decimal(chance.choice((0, 100, 2500, 10**7)))
                prices = [round(chance.uniform(240, 260), 2)] * 4
                facts = {"quote_volume": Decimal(0), "taker_buy_volume": Decimal(0), "state": 2, "origin": 1}
                yield minute(instrument, time_ms, prices, 0, volume=volume, **facts)


def minutes() -> list[Row]:
    """All 1m bars but the late ones."""
    drawn = [*numbered(BTC), *numbered(ETH), *sparse(AAPL), *sparse(MSFT), *polled(THYAO)]
    return sorted([*drawn, *by_hand()], key=lambda row: (row["instrument_id"], row["time"]))


def longer(rows: Iterable[Row]) -> dict[Timeframe, list[Row]]:
    """Bars of the longer timeframes: most buckets as their minutes say, some missing, some stale, some days native."""
    chance = random.Random(1)
    found: dict[Timeframe, list[Row]] = {Timeframe.M1: [row for row in rows if row["open_time"] != UNPRICED]}
    for tf in ROLLUPS:
        assert tf.below is not None
        buckets: dict[tuple[int, int], list[Row]] = {}
        for row in found[tf.below]:
            if tf.below is not Timeframe.M1 or row["state"]:
                buckets.setdefault((row["instrument_id"], tf.floor(row["time"])), []).append(row)
        bars = [_rolled(key, children, tf) for key, children in buckets.items()]
        found[tf] = [bar for bar in bars if chance.random() < 0.9 or tf is Timeframe.D1]
        for bar in found[tf]:
            if chance.random() < 0.15:  # a minute came late and nobody has rolled up yet
                bar |= {"close": bar["close"] * 1.01, "trade_count": bar["trade_count"] + 1, "revision": 1}
    found[Timeframe.D1] += _days()
    return {tf: found[tf] for tf in ROLLUPS}


def _rolled(key: tuple[int, int], children: Sequence[Row], tf: Timeframe) -> Row:
    traded = [row for row in children if row["trade_count"]] or list(children)
    first, last = traded[0], traded[-1]
    assert tf.below is not None
    whole = len(children) == tf.minutes // tf.below.minutes and all(row["state"] for row in children)
    sums = ("volume", "quote_volume", "taker_buy_volume", "trade_count")
    return first | {
        "instrument_id": key[0], "time": key[1], "high": max(row["high"] for row in traded),
        "low": min(row["low"] for row in traded), **{name: sum(row[name] for row in children) for name in sums},
        **{name: last[name] for name in ("close", "close_time", "close_seq")},
        "state": min(row["state"] for row in children) if whole else 0, "revision": 0, "updated": 2.5,
        "origin": 3 if all(row["origin"] == 3 for row in children) else 2,
    }  # fmt: skip


def _days() -> Iterator[Row]:
    """Days as the sources of stocks tell them, on days without minutes of ours; one is in doubt."""
    for instrument in (AAPL, THYAO):
        for day in (14, 15, 16, 29):
            time_ms, state = at("2019-10-01") + (day - 1) * DAY_MS, 1 if day == 16 else 2
            yield minute(instrument, time_ms, (100, 110 + day, 90, 105), 5000 + day, state=state, origin=1)


def indicators(bars: dict[Timeframe, list[Row]]) -> dict[Timeframe, list[Row]]:
    """Values of most bars of two instruments, the first of each series null."""
    chance = random.Random(2)
    found: dict[Timeframe, list[Row]] = {}
    for tf, rows in bars.items():
        chosen = [row for row in rows if row["instrument_id"] in (BTC, AAPL, SOL) and row["open_time"] != UNPRICED]
        found[tf] = [
            {
                "instrument_id": row["instrument_id"], "time": row["time"],
                **{name: chance.gauss(row["close"], 1) if chance.random() < 0.8 else None for name in INDICATORS},
            }
            for row in chosen if chance.random() < 0.9
        ]  # fmt: skip
    return found
