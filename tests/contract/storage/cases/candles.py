"""Bars: merged, replaced, verified, removed and read, in compressed and uncompressed chunks and across their border."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.bars import UNPRICED, Bar, Merged, Origin, PartialBar, State
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.domain.updates import bar_json
from app.storage import bulk, candles
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, NOW, OLD, SOL, THYAO
from tests.contract.storage.registry import case

M = MINUTE_MS
AHEAD = NOW + 30 * DAY_MS  # no chunk is there yet


def part(instrument: int, time_ms: int, price: float, ids: tuple[int, int], *, count: int | None = None) -> PartialBar:
    """What a batch says of a minute: all its trades at one price, half a unit each."""
    number = ids[1] - ids[0] + 1 if count is None else count
    size = Decimal(number) / 2
    first, last = time_ms * 1000 + 500_000, time_ms * 1000 + 59_500_000
    return PartialBar(
        instrument, time_ms, price, price, price, price, size, size * Decimal(repr(price)), size, number,
        first, ids[0], last, ids[1],
    )  # fmt: skip


def no_price(instrument: int, time_ms: int, count: int) -> PartialBar:
    """A part without a print that sets a price."""
    size = Decimal(count)
    return PartialBar(
        instrument, time_ms, 0.0, float("-inf"), float("inf"), 0.0, size, Decimal(0), size, count,
        UNPRICED, UNPRICED, -1, -1,
    )  # fmt: skip


def official(
    instrument: int,
    time_ms: int,
    price: float,
    count: int = 9,
    volume: str = "4.50000000",
    tf: Timeframe = Timeframe.M1,
) -> Bar:
    """The exchange's own bar, without ids."""
    size, last_us = Decimal(volume), (time_ms + tf.ms) * 1000 - 1
    prices = (price, price * 1.5, price / 2, price) if count else (price,) * 4
    return Bar(
        instrument, time_ms, *prices, size, size * 2, size / 2, count, time_ms * 1000, 0, last_us, 0,
        State.VERIFIED, 0, Origin.EXCHANGE,
    )  # fmt: skip


def many_parts(seed: int, times: Iterable[int], instruments: Iterable[int]) -> list[PartialBar]:
    """Parts of many minutes, sorted as a batch's are."""
    chance = random.Random(seed)
    keys = sorted((i, t) for i in instruments for t in times if chance.random() < 0.5)
    return [part(i, t, round(chance.uniform(50, 500), 2), (chance.randrange(1, 10**6),) * 2, count=3) for i, t in keys]


@case(candles.merge, candles_1m=(3, 5))
def merge_in_a_compressed_chunk(c: sa.Connection) -> Merged:
    parts = [
        part(SOL, HAND, 8, (99, 100)), part(SOL, HAND + M, 10.5, (200, 200)), part(SOL, HAND + 2 * M, 10, (201, 202)),
        part(SOL, HAND + 5 * M, 14, (122, 123)), part(SOL, HAND + 6 * M, 1, (900, 901)),
        part(SOL, HAND + 20 * M, 2, (910, 910)),
    ]  # fmt: skip
    found = candles.merge(c, parts)
    assert found.verified == [(SOL, HAND + 6 * M)]
    first, second = found.bars[:2]
    assert (first.open, first.high, first.low, first.close) == (8, 12, 8, 8)  # an earlier first and a later last trade
    assert (first.volume, first.trade_count, first.revision) == (Decimal("2.25"), 12, 1)
    assert (second.open, second.trade_count, second.origin, second.revision) == (10.5, 1, Origin.TRADES, 1)
    return found


@case(candles.merge, candles_1m=(3, 5))
def merge_across_the_border(c: sa.Connection) -> Merged:
    times = [EDGE - M, EDGE, EDGE + 2 * M, LIVE + 2 * M]
    found = candles.merge(c, [part(SOL, t, 21.5, (800 + i, 800 + i)) for i, t in enumerate([*times, AHEAD])])
    assert [bar.trade_count for bar in found.bars] == [5, 1, 5, 5, 1]
    assert found.verified == []
    return found


@case(candles.merge, candles_1m=(3, 5))
def merge_without_prices(c: sa.Connection) -> Merged:
    hidden = c.execute(
        sa.text(
            "SELECT (extract(epoch FROM time) * 1000)::bigint FROM candles_1m"
            " WHERE open_time = :unpriced AND instrument_id = :i ORDER BY time"
        ),
        {"unpriced": UNPRICED, "i": AAPL},
    ).scalars()
    first, *_ = hidden
    parts = [
        no_price(SOL, HAND, 4), no_price(SOL, HAND + 4 * M, 4), no_price(SOL, LIVE + 2 * M, 1),
        no_price(AAPL, OLD - M, 2), part(AAPL, first, 200, (7, 7)),
    ]  # fmt: skip
    found = candles.merge(c, parts)
    by_key = {(bar.instrument_id, bar.time_ms): bar for bar in found.bars}
    assert (by_key[SOL, HAND].close, by_key[SOL, HAND].trade_count) == (11, 14)
    assert by_key[AAPL, first].high == 200
    return found


@case(candles.merge, candles_1m=(136, 402))
def merge_a_batch_over_everything(c: sa.Connection) -> Merged:
    times = [lo + place * M for lo, length, _ in CLUSTERS for place in range(-3, length + 3)]
    return candles.merge(c, many_parts(1, times, (BTC, AAPL, SOL)))


@case(candles.merge)
def merge_nothing(c: sa.Connection) -> Merged:
    return candles.merge(c, [])


REPLACED = [HAND, HAND + M, HAND + 2 * M, HAND + 5 * M, HAND + 6 * M, HAND + 8 * M, EDGE - M, EDGE, LIVE + 2 * M, AHEAD]


@case(candles.replace, candles_1m=(7, 10))
def replace_minutes(c: sa.Connection) -> object:
    changed = candles.replace(c, [official(SOL, t, 15, count=0 if t == HAND + 2 * M else 9) for t in REPLACED])
    assert len(changed) == 10
    stored = {bar.time_ms: bar for bar in candles.read(c, SOL, Timeframe.M1)}
    assert stored[HAND + 2 * M].origin is Origin.FLAT
    assert (stored[HAND].open_seq, stored[HAND].close_seq, stored[HAND].revision) == (101, 110, 1)
    assert stored[HAND + 5 * M].revision == 0  # it was open
    return changed


@case(candles.replace, candles_1m=(1, 1))
def replace_by_the_same(c: sa.Connection) -> object:
    before = candles.read(c, SOL, Timeframe.M1, start_ms=HAND, end_ms=HAND + 9 * M)
    verified = [bar for bar in before if bar.state is State.VERIFIED]
    assert candles.replace(c, verified) == []
    changed = candles.replace(c, before[:1])
    assert changed == [(SOL, HAND)]  # closed before, verified now, its trades still its own
    stored = candles.read(c, SOL, Timeframe.M1, start_ms=HAND, limit=20)[0]
    assert (stored.state, stored.revision, stored.origin) == (State.VERIFIED, 0, Origin.TRADES)
    return changed


@case(candles.replace, candles_1m=(119, 214))
def replace_stocks_without_flats(c: sa.Connection) -> object:
    times = [lo + place * M for lo, length, _ in CLUSTERS for place in range(0, length, 3)]
    bars = [official(i, t, 200, count=t // M % 4, volume="1.5") for t in times for i in (THYAO, AAPL)]
    return candles.replace(c, bars, flats=False)


def _replace_longer(tf: Timeframe) -> Any:
    def body(c: sa.Connection) -> object:
        times = sorted({tf.floor(t) + step * tf.ms for t in (OLD, HAND, EDGE, LIVE, AHEAD) for step in (-1, 0, 1)})
        return candles.replace(c, [official(i, t, 77, tf=tf) for i in (BTC, AAPL) for t in times], tf=tf)

    body.__name__ = f"replace_{tf.value}"
    return body


for _tf, _stood in zip(ROLLUPS, (13, 11, 11, 10, 11), strict=True):
    case(candles.replace, changed={f"candles_{_tf.value}": (_stood, 30)})(_replace_longer(_tf))


def page(instrument: int, lo_ms: int, count: int, tf: Timeframe = Timeframe.M1) -> list[Bar]:
    """A page of history: every fifth bar without trades."""
    return [
        official(instrument, lo_ms + n * tf.ms, 100 + n / 8, count=n % 5, volume=f"{n}.12345678", tf=tf)
        for n in range(count)
    ]


@case(bulk.replace, candles_1m=(0, 60))
def bulk_where_nothing_stands(c: sa.Connection) -> object:
    bars = page(SOL, HAND + 60 * M, 60)
    assert bulk.replace(c, BarColumns.of(SOL, bars)) == [(SOL, bar.time_ms) for bar in bars]
    stored = candles.read(c, SOL, Timeframe.M1, start_ms=HAND + 60 * M, end_ms=HAND + 120 * M)
    assert [bar.origin for bar in stored[:6]] == [Origin.FLAT, *[Origin.EXCHANGE] * 4, Origin.FLAT]
    return stored


@case(bulk.replace, candles_1m=(0, 110))
def bulk_over_the_border_and_ahead(c: sa.Connection) -> object:
    first = bulk.replace(c, page(THYAO, EDGE - 300 * M, 60), flats=False)
    return first + bulk.replace(c, BarColumns.of(SOL, page(SOL, AHEAD, 50)))


@case(bulk.replace, candles_1m=(8, 60))
def bulk_over_what_stands(c: sa.Connection) -> object:
    return sorted(bulk.replace(c, BarColumns.of(SOL, page(SOL, HAND, 60))))


@case(bulk.replace, candles_1m=(80, 100))
def bulk_over_a_drawn_series_twice(c: sa.Connection) -> object:
    bars = page(BTC, OLD - 10 * M, 100)
    changed = sorted(bulk.replace(c, bars))
    assert bulk.replace(c, bars) == []
    return changed


@case(bulk.replace, candles_1h=(2, 48), candles_1m=(0, 5))
def bulk_of_hours_and_of_few(c: sa.Connection) -> object:
    hours = bulk.replace(
        c, page(BTC, Timeframe.H1.floor(EDGE) - 24 * Timeframe.H1.ms, 48, Timeframe.H1), tf=Timeframe.H1
    )
    return sorted(hours) + sorted(bulk.replace(c, page(ETH, HAND + 10 * M, 5)))


@case(candles.verify, candles_1m=(4, 4))
def verify(c: sa.Connection) -> None:
    keys = [(SOL, HAND), (SOL, EDGE - M), (SOL, EDGE + 2 * M), (SOL, HAND + 4 * M), (SOL, LIVE)]
    candles.verify(c, keys)
    candles.verify(c, [])


@case(candles.lock)
def lock(c: sa.Connection) -> None:
    candles.lock(c, SOL, HAND, HAND + 9 * M)
    candles.lock(c, BTC, OLD, NOW)


@case(candles.hold)
def hold(c: sa.Connection) -> object:
    keys = [(SOL, HAND), (SOL, LIVE), (SOL, HAND + 4 * M), (SOL, HAND + 6 * M), (AAPL, 0)]
    found = sorted(candles.hold(c, keys), key=lambda bar: bar.time_ms)
    assert [bar.time_ms for bar in found] == [HAND, HAND + 6 * M, LIVE]
    return found, candles.hold(c, [])


@case(candles.remove, candles_1m=(4, 0), indicators_1m=(4, 0))
def remove(c: sa.Connection) -> object:
    candles.remove(c, [(SOL, HAND), (SOL, HAND + 4 * M), (SOL, HAND + 5 * M), (SOL, EDGE + 2 * M), (SOL, LIVE)])
    candles.remove(c, [])
    return len(candles.read(c, SOL, Timeframe.M1))


@case(candles.read)
def read_the_newest(c: sa.Connection) -> object:
    found = {tf: candles.read(c, BTC, tf, limit=40) for tf in Timeframe}
    assert len(found[Timeframe.M1]) == 40
    return found


@case(candles.read)
def read_stretches(c: sa.Connection) -> object:
    sol = candles.read(c, SOL, Timeframe.M1, start_ms=HAND + M, end_ms=EDGE + 2 * M)
    assert [bar.time_ms for bar in sol] == [HAND + n * M for n in (1, 3, 5, 6, 7, 8, 30)] + [EDGE - M]
    return [
        *sol, *candles.read(c, AAPL, Timeframe.M1, start_ms=OLD, end_ms=EDGE + 30 * M, limit=60),
        *candles.read(c, BTC, Timeframe.M5, end_ms=EDGE), *candles.read(c, THYAO, Timeframe.D1, start_ms=OLD),
        *candles.read(c, 4, Timeframe.H1),
    ]  # fmt: skip


@case(candles.read_many)
def read_several(c: sa.Connection) -> object:
    found = candles.read_many(c, [THYAO, SOL, BTC, 4], Timeframe.M1, start_ms=EDGE - 10 * M, end_ms=EDGE + 10 * M)
    assert found == sorted(found, key=lambda bar: (bar.instrument_id, bar.time_ms))
    hours = candles.read_many(c, [BTC, ETH, AAPL], Timeframe.H1, start_ms=OLD, end_ms=NOW)
    return [found, hours, candles.read_many(c, [], Timeframe.M1, start_ms=OLD, end_ms=NOW)]


@case(candles.columns, candles_1m=(0, 6))
def columns_of_the_newest(c: sa.Connection) -> object:
    """What the rows say, column by column; sums of more than 8 decimals rounded as they are in Python."""
    long = ["0.000000005", "0.000000015", "0.123456785", "1.0000000150000001", "2.50000000000000000000", "7E+15"]
    parts = [
        part(SOL, HAND + (40 + n) * M, 8.0, (9_000 + n, 9_000 + n))._replace(
            volume=Decimal(text), quote_volume=Decimal(text)
        )
        for n, text in enumerate(long)
    ]
    candles.merge(c, parts)
    for instrument in (BTC, SOL, AAPL, THYAO, 4):
        for tf in Timeframe:
            bars = [bar_json(bar) for bar in candles.read(c, instrument, tf, limit=300)]
            found = candles.columns(c, instrument, tf, limit=300)
            assert found["state"].tolist() == [State[bar["state"].upper()] for bar in bars]
            assert found["origin"].tolist() == [Origin[bar["origin"].upper()] for bar in bars]
            for name in candles.COLUMNS.names or ():
                assert name in ("state", "origin") or found[name].tolist() == [bar[name] for bar in bars], (tf, name)
    newest = candles.columns(c, SOL, Timeframe.M1, limit=9)
    assert newest["time"].tolist() == [bar.time_ms for bar in candles.read(c, SOL, Timeframe.M1, limit=9)]
    return newest.tolist()
