"""Generated trades: seeded, computed on demand, the same for a minute whenever and from wherever it is asked.

Nothing is chained from a start: the price level at each midnight is noise of its day's number, a day holds a fixed
number of trades, and inside a day everything is drawn from generators keyed by (seed, symbol, day or block). So ids
are contiguous for ever, any minute of any year costs the same, and a restarted market goes on where it was.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import BadInput
from app.sandbox.catalogue import Character
from app.sandbox.tape import Columns, Ints, Spec

MINUTE_US = 60_000_000
DAY_MINUTES = 1440
ORIGIN_DAY = 17_361  # 2017-07-14: trade 1 of every symbol
BLOCK_TRADES = 20_000
CACHED_TRADES = 60_000
SIGMA = 0.0006  # of a minute's log return, 2.3 % a day
OCTAVES = ((2, 0.02), (8, 0.04), (32, 0.08), (128, 0.14))  # days, amplitude of the level's slow noise

Floats = NDArray[np.float64]


class Day(NamedTuple):
    """A day's plan: trades before each minute (1441), log price at each minute's edge (1441), volatility (1440)."""

    before: Ints
    level: Floats
    volatility: Floats


class GeneratedTape:
    """The trades of one symbol at about `per_second` a second."""

    def __init__(self, character: Character, *, seed: int, per_second: float) -> None:
        self._character = character
        self._key = (seed, zlib.crc32(character.spec.symbol.encode()))
        self._per_day = max(1, round(per_second * 86_400))
        self._minutes = next((m for m in (60, 20, 10, 5) if per_second * 60 * m <= BLOCK_TRADES), 1)
        self._blocks: OrderedDict[int, Columns] = OrderedDict()
        self._day = lru_cache(maxsize=6)(self._plan_day)

    @property
    def spec(self) -> Spec:
        """The symbol's names and decimals."""
        return self._character.spec

    def block(self, time_us: int) -> tuple[Columns, int, int]:
        """The trades of the block that holds `time_us`, its start and end; raises BadInput before 2017-07-14."""
        minute = time_us // MINUTE_US
        start = minute - minute % self._minutes
        if start < ORIGIN_DAY * DAY_MINUTES:
            raise BadInput("the generated market begins on 2017-07-14")
        found = self._blocks.get(start)
        if found is None:
            found = self._blocks[start] = self._make(start)
            held = sum(len(block) for block in self._blocks.values())
            while held > CACHED_TRADES and len(self._blocks) > 1:
                held -= len(self._blocks.popitem(last=False)[1])
        else:
            self._blocks.move_to_end(start)
        return found, start * MINUTE_US, (start + self._minutes) * MINUTE_US

    def floor_us(self, trade_id: int) -> int:
        """The start of the minute of trade `trade_id`."""
        days, place = divmod(max(trade_id, 1) - 1, self._per_day)
        minute = int(np.searchsorted(self._day(ORIGIN_DAY + days).before, place, side="right")) - 1
        return ((ORIGIN_DAY + days) * DAY_MINUTES + minute) * MINUTE_US

    def last_ids(self, time_us: int) -> tuple[int, int]:
        """The number of the last trade at or before `time_us`, twice: every trade is an aggregate of its own."""
        columns, start_us, _ = self.block(time_us)
        at = int(np.searchsorted(columns.time_us, time_us, side="right"))
        day, minute = divmod(start_us // MINUTE_US, DAY_MINUTES)
        last = (day - ORIGIN_DAY) * self._per_day + int(self._day(day).before[minute]) + at
        return last, last

    def first_id(self, agg: int) -> int:
        """The raw trade of aggregate trade `agg`: the same number."""
        return agg

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((*self._key, *key))

    def _knot(self, octave: int, place: int) -> float:
        return float(self._rng(2, octave, place).standard_normal())

    def _plan_day(self, day: int) -> Day:
        rng = self._rng(1, day)
        minute = np.arange(DAY_MINUTES)
        shape = 0.7 + 0.9 * ((minute - 720) / 720) ** 2  # busy at both ends of the day
        waves = np.convolve(rng.standard_normal(DAY_MINUTES + 239), np.exp(-np.arange(240) / 45), mode="valid")
        volatility = np.exp(0.11 * waves)  # turbulence comes in spells of most of an hour
        activity = shape * volatility * rng.lognormal(0, 0.35, DAY_MINUTES)
        activity[rng.random(DAY_MINUTES) < self._character.quiet] = 0
        counts = rng.multinomial(self._per_day, activity / activity.sum())
        walk = np.concatenate(([0.0], np.cumsum(rng.standard_normal(DAY_MINUTES) * volatility * SIGMA)))
        first, last = (math.log(self._character.price) + slow_noise(self._knot, at) for at in (day, day + 1))
        drift = np.arange(DAY_MINUTES + 1) / DAY_MINUTES
        level = first + walk + drift * (last - first - walk[-1])
        return Day(np.concatenate(([0], np.cumsum(counts))), level, volatility)

    def _make(self, start: int) -> Columns:
        day, offset = divmod(start, DAY_MINUTES)
        plan, span = self._day(day), slice(offset, offset + self._minutes)
        before = plan.before[offset : offset + self._minutes + 1]
        counts = np.diff(before)
        rng = self._rng(3, start)
        minute = np.repeat(np.arange(self._minutes), counts)
        time_ms = np.sort(minute * 60_000 + rng.integers(0, 60_000, len(minute))) + start * 60_000
        ids = np.arange(before[0], before[-1], dtype=np.int64) + (day - ORIGIN_DAY) * self._per_day + 1
        spec, level = self.spec, plan.level[offset : offset + self._minutes + 1]
        ticks = price_path(
            rng, minute, counts, level=level, volatility=plan.volatility[span], decimals=spec.price_decimals
        )
        maker = rng.random(len(ids)) < 0.5 - 0.3 * np.sign(np.diff(ticks, prepend=ticks[:1]))
        lots = np.exp(rng.normal(math.log(self._character.usual_size * 10**spec.size_decimals), 1.2, len(ids)))
        size = np.maximum(1, np.rint(lots)).astype(np.int64) * 10 ** (8 - spec.size_decimals)
        return Columns(time_ms * 1000, ids, ids, ticks * 10 ** (8 - spec.price_decimals), size, maker)


def slow_noise(knot: Callable[[int, int], float], day: int) -> float:
    """The level of the log price at the start of `day`: smooth noise of several periods, without memory.

    `knot` draws the value of an octave at a place, from a generator of its own.
    """
    total = 0.0
    for octave, (period, amplitude) in enumerate(OCTAVES):
        place, rest = divmod(day, period)
        here, there = (knot(octave, place + step) for step in (0, 1))
        weight = (1 - math.cos(math.pi * rest / period)) / 2
        total += amplitude * (here * (1 - weight) + there * weight)
    return total


def price_path(
    rng: np.random.Generator, minute: Ints, counts: Ints, *, level: Floats, volatility: Floats, decimals: int
) -> Ints:
    """The price of each trade in ticks: inside each minute a bridge from its edge's level to the next's."""
    walk = np.cumsum(rng.standard_normal(len(minute)))
    edges = np.concatenate(([0.0], walk))[np.concatenate(([0], np.cumsum(counts)))]
    share = (np.arange(len(minute)) - np.repeat(np.cumsum(counts) - counts, counts) + 1) / counts[minute]
    local = walk - edges[minute] - share * np.diff(edges)[minute]
    scale = 0.8 * SIGMA * volatility[minute] / np.sqrt(counts[minute])
    path = level[minute] + share * np.diff(level)[minute] + scale * local
    ticks: Ints = np.maximum(1, np.rint(np.exp(path) * 10**decimals)).astype(np.int64)
    return ticks
