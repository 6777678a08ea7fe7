"""Bars: states, origins, the law by which trades and bars merge, and the one table that says how a bar aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.conditions import HIGH_LOW, LAST, VOLUME
from app.domain.timeframes import MINUTE_US
from app.domain.trades import SCALE, TradeBatch

# Identity elements of the merge: what a part says that has no print of the kind. A bar with this `open_time` has no
# open and close (yet), one with infinite high and low no prices at all: such a bar is kept, and shown to nobody.
UNPRICED = 2**62
_NO_HIGH, _NO_LOW = float("-inf"), float("inf")
_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class State(IntEnum):
    """How sure a bar is."""

    OPEN = 0
    CLOSED = 1
    VERIFIED = 2


class Origin(IntEnum):
    """Where a bar's values come from."""

    TRADES = 0
    EXCHANGE = 1
    ROLLUP = 2
    FLAT = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar as the platform speaks of it; times of trades in µs, sums exact, state and origin as above."""

    instrument_id: int
    time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    trade_count: int
    open_time: int
    open_seq: int
    close_time: int
    close_seq: int
    state: State = State.OPEN
    revision: int = 0
    origin: Origin = Origin.TRADES


# field → how a bar of a longer timeframe gets it from its parts (flat parts count only where all are flat).
AGGREGATION: dict[str, str] = {
    "open": "first",
    "high": "max",
    "low": "min",
    "close": "last",
    "volume": "sum",
    "quote_volume": "sum",
    "taker_buy_volume": "sum",
    "trade_count": "sum",
    "open_time": "first",
    "open_seq": "first",
    "close_time": "last",
    "close_seq": "last",
}


class PartialBar(NamedTuple):
    """What the trades of one batch say of one minute of one instrument; prices 1e-8, sums Decimal."""

    instrument_id: int
    time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    trade_count: int
    open_time: int
    open_seq: int
    close_time: int
    close_seq: int


class Merged(NamedTuple):
    """What a merge changed: the bars as they stand now, and the keys of verified bars it left alone."""

    bars: list[Bar]
    verified: list[tuple[int, int]]


def partial_bars(batch: TradeBatch) -> list[PartialBar]:
    """The batch's trades as minutes, sorted by (instrument, time): the merge law of DESIGN.md section 2, exact.

    Open is the trade with the smallest (time, first id), close the one with the largest (time, last id); the rest
    are max, min and sums, each over the prints that may update it. A part without a print for open and close has
    `open_time` UNPRICED, zero prices and a close before all others; one without a print for high and low has them
    infinite the wrong way: merging leaves the other side as it is. Sums are exact: integers are added in limbs of 21
    bits, so no product leaves 63 bits.
    """
    if batch.updates is not None:
        batch = batch.take(batch.updates != 0)
    if not len(batch):
        return []
    batch = _ordered(batch)
    minute = batch.time_us // MINUTE_US
    breaks = (np.diff(batch.instrument_id) != 0) | (np.diff(minute) != 0)
    starts = np.flatnonzero(np.concatenate(([True], breaks)))

    ids, minutes = batch.instrument_id[starts].tolist(), minute[starts].tolist()
    highs, lows = _extremes(batch, starts)
    edges = _edges(batch, starts)
    volumes, quotes, takers, counts = _totals(batch, starts)
    return [
        PartialBar(
            ids[i],
            minutes[i] * 60_000,
            edges[i].open,
            highs[i],
            lows[i],
            edges[i].close,
            volumes[i],
            quotes[i],
            takers[i],
            counts[i],
            edges[i].open_time,
            edges[i].open_seq,
            edges[i].close_time,
            edges[i].close_seq,
        )
        for i in range(len(starts))
    ]


class _Edges(NamedTuple):
    """The first and the last print of a minute that set its open and close."""

    open: float = 0.0
    open_time: int = UNPRICED
    open_seq: int = UNPRICED
    close: float = 0.0
    close_time: int = -1
    close_seq: int = -1


def _edges(batch: TradeBatch, starts: NDArray[np.intp]) -> list[_Edges]:
    rows = np.arange(len(batch)) if batch.updates is None else np.flatnonzero(batch.updates & LAST)
    if not len(rows):
        return [_Edges()] * len(starts)
    # A minute's prints of this kind are rows[lo:hi]; where there is none, what is looked up is not used.
    bounds = np.searchsorted(rows, np.concatenate((starts, [len(batch)])))
    opening, closing = rows[np.minimum(bounds[:-1], len(rows) - 1)], rows[bounds[1:] - 1]
    unit = 10**SCALE  # Python's int / int rounds correctly: the double that prints the exchange's decimals
    columns = (
        (bounds[:-1] < bounds[1:]).tolist(),
        batch.price_e8[opening].tolist(),
        batch.time_us[opening].tolist(),
        batch.first[opening].tolist(),
        batch.price_e8[closing].tolist(),
        batch.time_us[closing].tolist(),
        batch.last[closing].tolist(),
    )
    return [
        _Edges(first / unit, time, seq, last / unit, last_time, last_seq) if any_print else _Edges()
        for any_print, first, time, seq, last, last_time, last_seq in zip(*columns, strict=True)
    ]


def _extremes(batch: TradeBatch, starts: NDArray[np.intp]) -> tuple[list[float], list[float]]:
    tops = bottoms = batch.price_e8
    if batch.updates is not None:
        counts = (batch.updates & HIGH_LOW) != 0
        tops, bottoms = np.where(counts, tops, _LEAST), np.where(counts, bottoms, _MOST)
    highs = np.maximum.reduceat(tops, starts).tolist()
    lows = np.minimum.reduceat(bottoms, starts).tolist()
    unit = 10**SCALE
    return (
        [_NO_HIGH if high == _LEAST else high / unit for high in highs],
        [_NO_LOW if low == _MOST else low / unit for low in lows],
    )


def _totals(
    batch: TradeBatch, starts: NDArray[np.intp]
) -> tuple[list[Decimal], list[Decimal], list[Decimal], list[int]]:
    """Volume, quote volume, taker buy volume and count of each minute."""
    sizes, covered = batch.size, batch.last - batch.first + 1
    if batch.updates is not None:
        counts = (batch.updates & VOLUME) != 0
        sizes, covered = np.where(counts, sizes, 0), np.where(counts, covered, 0)
    scale = batch.size_scale
    return (
        [_decimal(units, scale) for units in _sums(sizes, starts)],
        [_decimal(units, scale + SCALE) for units in _product_sums(batch.price_e8, sizes, starts)],
        [_decimal(units, scale) for units in _sums(np.where(batch.taker_buy, sizes, 0), starts)],
        np.add.reduceat(covered, starts).tolist(),
    )


def _ordered(batch: TradeBatch) -> TradeBatch:
    """The batch by (instrument, time, id); one without repeats comes in this order and is left as it is."""
    instrument, later, next_id = np.diff(batch.instrument_id), np.diff(batch.time_us), np.diff(batch.first)
    rises = (instrument > 0) | ((instrument == 0) & ((later > 0) | ((later == 0) & (next_id >= 0))))
    if rises.all():
        return batch
    return batch.take(np.lexsort((batch.first, batch.time_us, batch.instrument_id)))


_EXACT = Context(prec=60)  # 63 bits times 63 bits, a million times: 44 digits
_LIMB = 21
_MASK = (1 << _LIMB) - 1


def _limbs(column: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [column & _MASK, (column >> _LIMB) & _MASK, column >> (2 * _LIMB)]


def _sums(column: NDArray[np.int64], starts: NDArray[np.intp]) -> list[int]:
    parts = [np.add.reduceat(limb, starts).tolist() for limb in _limbs(column)]
    return [low + (mid << _LIMB) + (high << 2 * _LIMB) for low, mid, high in zip(*parts, strict=True)]


def _product_sums(left: NDArray[np.int64], right: NDArray[np.int64], starts: NDArray[np.intp]) -> list[int]:
    totals = [0] * len(starts)
    rights = _limbs(right)
    for i, a in enumerate(_limbs(left)):
        if not a.any():
            continue
        for j, b in enumerate(rights):
            if not b.any():
                continue
            shift = _LIMB * (i + j)
            for k, part in enumerate(np.add.reduceat(a * b, starts).tolist()):
                totals[k] += part << shift
    return totals


def _decimal(units: int, scale: int) -> Decimal:
    """units × 10^-scale, exact at any size here (the default context would round to 28 digits)."""
    return Decimal(units).scaleb(-scale, _EXACT)
