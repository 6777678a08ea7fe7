"""The true bars of stocks, in exact integers: written apart from the platform's own arithmetic, measured by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.sandbox.stocks.conditions import HIGH_LOW, OPEN_CLOSE, VOLUME, effects
from app.sandbox.stocks.hours import MINUTE_US, Session
from app.sandbox.stocks.prints import CORRECTED, PRICE_UNIT, VALID, Prints
from app.sandbox.tape import Ints
from app.sandbox.truth import TrueBar

# A cell is what happened in a minute, bar or not: the columns of a matrix of integers.
TIME_MS, OPEN, HIGH, LOW, CLOSE, SHARES, TURNOVER, COUNT, FIRST, LAST = range(10)
WIDTH = 10
NO_HIGH, NO_LOW, NO_PRICE = -1, 2**62, 0
PRICE_E8, SIZE_E8 = 10**8 // PRICE_UNIT, 10**8


def no_cells() -> Ints:
    """A matrix without rows."""
    return np.zeros((0, WIDTH), np.int64)


def cells(prints: Prints, session: Session, tape: str) -> Ints:
    """What each minute's prints update, oldest first; minutes in which nothing counts are left out."""
    if not len(prints):
        return no_cells()
    lo_us, hi_us = session.regular_us
    extended = (prints.time_us < lo_us) | (prints.time_us >= hi_us)
    effect = effects(prints.conditions, extended, tape)
    effect = np.where((prints.mark == VALID) | (prints.mark == CORRECTED), effect, 0)
    minute = prints.time_us // MINUTE_US
    starts = np.flatnonzero(np.diff(minute, prepend=-1))
    ends = np.append(starts[1:], len(minute))
    counts = (effect & VOLUME) > 0
    shares = np.where(counts, prints.size, 0)
    out = np.zeros((len(starts), WIDTH), np.int64)
    out[:, TIME_MS] = minute[starts] * (MINUTE_US // 1000)
    out[:, HIGH] = np.maximum.reduceat(np.where(effect & HIGH_LOW, prints.price, NO_HIGH), starts)
    out[:, LOW] = np.minimum.reduceat(np.where(effect & HIGH_LOW, prints.price, NO_LOW), starts)
    out[:, SHARES] = np.add.reduceat(shares, starts)
    out[:, TURNOVER] = np.add.reduceat(shares * prints.price, starts)
    out[:, COUNT] = np.add.reduceat(counts.astype(np.int64), starts)
    _fill_ends(out, prints, (effect & OPEN_CLOSE) > 0, (starts, ends))
    counted: Ints = out[(out[:, COUNT] > 0) | (out[:, HIGH] != NO_HIGH)]
    return counted


def _fill_ends(out: Ints, prints: Prints, sets: NDArray[np.bool_], edges: tuple[Ints, Ints]) -> None:
    """Open, close and the ids of the prints that set them; all zero where none does."""
    rows = np.flatnonzero(sets)
    first, behind = (np.searchsorted(rows, edge) for edge in edges)
    there = first < behind
    opens, closes = rows[first[there]], rows[behind[there] - 1]
    out[there, OPEN], out[there, CLOSE] = prints.price[opens], prints.price[closes]
    out[there, FIRST], out[there, LAST] = prints.id[opens], prints.id[closes]


def bars(matrix: Ints) -> list[TrueBar]:
    """The bars of the cells; a minute without a print that sets open and close has none."""
    return [_bar(*row) for row in matrix[matrix[:, OPEN] != NO_PRICE].tolist()]


def whole_bar(matrix: Ints, time_ms: int) -> TrueBar | None:
    """One bar of all the cells, also of those that are no bar by themselves; None where nothing sets its open."""
    sets = matrix[matrix[:, OPEN] != NO_PRICE]
    if not len(sets):
        return None
    first, last = sets[0], sets[-1]
    shares, turnover, count = (int(matrix[:, column].sum()) for column in (SHARES, TURNOVER, COUNT))
    high, low = int(matrix[:, HIGH].max()), int(matrix[:, LOW].min())
    opens, closes, first_id, last_id = int(first[OPEN]), int(last[CLOSE]), int(first[FIRST]), int(last[LAST])
    return _bar(time_ms, opens, high, low, closes, shares, turnover, count, first_id, last_id)


def _bar(
    time_ms: int,
    first: int,
    high: int,
    low: int,
    last: int,
    shares: int,
    turnover: int,
    count: int,
    first_id: int,
    last_id: int,
) -> TrueBar:
    return TrueBar(
        time_ms,
        first * PRICE_E8,
        high * PRICE_E8,
        low * PRICE_E8,
        last * PRICE_E8,
        shares * SIZE_E8,
        turnover * PRICE_E8 * SIZE_E8,
        0,
        0,
        count,
        first_id,
        last_id,
    )


def vwap(bar: TrueBar) -> float:
    """The volume-weighted average price to six decimals, as the exchange rounds it."""
    if not bar.volume:
        return 0.0
    millionths, rest = divmod(bar.quote * 10**6, bar.volume * 10**8)
    return (millionths + (2 * rest >= bar.volume * 10**8)) / 10**6
