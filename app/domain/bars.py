"""Bars: states, origins, the law by which trades and bars merge, and the one table that says how a bar aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.timeframes import MINUTE_US
from app.domain.trades import SCALE, TradeBatch


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
    are max, min and sums. Sums are exact: integers are added in limbs of 21 bits, so no product leaves 63 bits.
    """
    if not len(batch):
        return []
    batch = _ordered(batch)
    minute = batch.time_us // MINUTE_US
    breaks = (np.diff(batch.instrument_id) != 0) | (np.diff(minute) != 0)
    starts = np.flatnonzero(np.concatenate(([True], breaks)))
    ends = np.concatenate((starts[1:], [len(batch)])) - 1

    highs = np.maximum.reduceat(batch.price_e8, starts).tolist()
    lows = np.minimum.reduceat(batch.price_e8, starts).tolist()
    counts = np.add.reduceat(batch.last - batch.first + 1, starts).tolist()
    volumes = _sums(batch.size, starts)
    takers = _sums(np.where(batch.taker_buy, batch.size, 0), starts)
    quotes = _product_sums(batch.price_e8, batch.size, starts)
    opens, closes = batch.price_e8[starts].tolist(), batch.price_e8[ends].tolist()
    ids, minutes = batch.instrument_id[starts].tolist(), minute[starts].tolist()
    open_times, close_times = batch.time_us[starts].tolist(), batch.time_us[ends].tolist()
    open_seqs, close_seqs = batch.first[starts].tolist(), batch.last[ends].tolist()
    scale, unit = batch.size_scale, 10**SCALE
    return [
        PartialBar(
            ids[i],
            minutes[i] * 60_000,
            opens[i] / unit,  # Python's int / int rounds correctly: the double that prints the exchange's decimals
            highs[i] / unit,
            lows[i] / unit,
            closes[i] / unit,
            _decimal(volumes[i], scale),
            _decimal(quotes[i], scale + SCALE),
            _decimal(takers[i], scale),
            counts[i],
            open_times[i],
            open_seqs[i],
            close_times[i],
            close_seqs[i],
        )
        for i in range(len(starts))
    ]


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
