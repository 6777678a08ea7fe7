"""A stock's prints, computed on demand: the same for a session whenever and from wherever it is asked.

Nothing is chained from a start: the price at each opening is noise of its day's number, a session holds a fixed number
of trades, and all of it is drawn from generators keyed by (seed, symbol, day or block). An id tells its day; ids rise
with time and have gaps. Times are unique within a stock.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from app.sandbox.generated import SIGMA, Floats, price_path, slow_noise
from app.sandbox.stocks.conditions import pack
from app.sandbox.stocks.hours import DAY_US, MINUTE_US, Hours, Session
from app.sandbox.stocks.listing import Listing
from app.sandbox.stocks.prints import Prints, join
from app.sandbox.tape import Ints

BLOCK_TRADES = 20_000
CACHED_TRADES = 60_000
DECIMALS = 2
CENT = 100  # in prints' 1e-4
IDS_A_DAY = 1_000_000_000
REGULAR_IDS, AFTER_IDS, REPORTED_IDS = 1_000_000, 800_000_000, 900_000_000  # where each part of a day's ids begins
DRAWN_US = 59_900_000  # times are drawn from this part of a minute: the rest lets equal ones move apart
BEFORE, AFTER = -1, -2  # blocks that are not of the session itself
GAP = 4  # of GAP numbers one is a trade's id

REGULAR, SWEEP, ODD_LOT = pack("@"), pack("@", "F"), pack("@", "I")
OPENING, CLOSING = pack("@", "O"), pack("@", "6")
EXTENDED, EXTENDED_ODD = pack("@", "T"), pack("@", "T", "I")
ISTANBUL = pack("@")
SPECIAL = np.array([pack("@", letter) for letter in "ZU4WBCPH7NRGVMQ"], np.int64)
SPECIAL_SHARE, SWEEP_SHARE = 0.025, 0.15
VENUES = np.frombuffer(b"QNPKZDVJ", np.uint8).astype(np.int64)


class Plan(NamedTuple):
    """A session's plan: trades before each minute, log price at each minute's edge, volatility of each minute."""

    before: Ints
    level: Floats
    volatility: Floats


class StockTape:
    """The prints of one stock at about `per_second` a second of its sessions."""

    def __init__(self, listing: Listing, hours: Hours, *, seed: int, per_second: float) -> None:
        self.listing, self.hours = listing, hours
        self._key = (seed, zlib.crc32(listing.symbol.encode()))
        self._per_minute = per_second * 60
        self._minutes = max(1, min(1440, int(BLOCK_TRADES / max(self._per_minute, 1e-9))))
        self._blocks: OrderedDict[tuple[int, int], Prints] = OrderedDict()
        self._plan = lru_cache(maxsize=8)(self._make_plan)
        self._knot = lru_cache(maxsize=64)(self._draw_knot)
        self._held = 0

    def stretches(self, lo_us: int, hi_us: int) -> list[tuple[int, int]]:
        """A part of a session in pieces of bounded size, cut at minutes."""
        step = self._minutes * MINUTE_US
        return [(at, min(at + step, hi_us)) for at in range(lo_us, hi_us, step)]

    def window(self, session: Session, lo_us: int, hi_us: int) -> Prints:
        """The prints of [lo, hi) in a session."""
        parts = [part for start, end, part in self._parts(session) if start < hi_us and end > lo_us]
        return join([self._block(session, part).window(lo_us, hi_us) for part in parts])

    def _parts(self, session: Session) -> list[tuple[int, int, int]]:
        """Start, end and key of each block: what is before the opening, the session in pieces, what is after it."""
        step, close_us = self._minutes * MINUTE_US, session.close_us
        inner = [(at, min(at + step, close_us), at) for at in range(session.open_us, close_us, step)]
        return [(session.lo_us, session.open_us, BEFORE), *inner, (close_us, session.hi_us, AFTER)]

    def _block(self, session: Session, part: int) -> Prints:
        key = (session.date_us, part)
        found = self._blocks.get(key)
        if found is None:
            found = self._around(session, part) if part < 0 else self._regular(session, part)
            self._blocks[key] = found
            self._held += len(found)
            while self._held > CACHED_TRADES and len(self._blocks) > 1:
                self._held -= len(self._blocks.popitem(last=False)[1])
        else:
            self._blocks.move_to_end(key)
        return found

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((*self._key, *key))

    def _draw_knot(self, octave: int, place: int) -> float:
        return float(self._rng(2, octave, place).standard_normal())

    def _make_plan(self, session: Session) -> Plan:
        minutes, day = (session.close_us - session.open_us) // MINUTE_US, session.date_us // DAY_US
        rng, minute = self._rng(1, day), np.arange(minutes)
        shape = 0.6 + 1.2 * (2 * minute / minutes - 1) ** 2  # busy after the opening and before the close
        waves = np.convolve(rng.standard_normal(minutes + 119), np.exp(-np.arange(120) / 25), mode="valid")
        volatility = 1.6 * np.exp(0.12 * waves) * (0.7 + 0.5 * shape)
        activity = shape * np.exp(0.12 * waves) * rng.lognormal(0, 0.35, minutes)
        activity[rng.random(minutes) < self.listing.quiet] = 0
        counts = rng.multinomial(max(2, round(self._per_minute * minutes)), activity / activity.sum())
        counts[[0, -1]] = np.maximum(counts[[0, -1]], 1)  # the opening and the closing print
        walk = np.concatenate(([0.0], np.cumsum(rng.standard_normal(minutes) * volatility * SIGMA)))
        base, gap = math.log(self.listing.price), 0.006 * float(rng.standard_normal())
        first, last = (base + slow_noise(self._knot, at) for at in (day, day + 1))
        drift = np.arange(minutes + 1) / minutes
        level = first + gap + walk + drift * (last - first - gap - walk[-1])
        return Plan(np.concatenate(([0], np.cumsum(counts))), level, volatility)

    def _regular(self, session: Session, start_us: int) -> Prints:
        plan, day = self._plan(session), session.date_us // DAY_US
        lo = (start_us - session.open_us) // MINUTE_US
        hi = min(lo + self._minutes, len(plan.volatility))
        before = plan.before[lo : hi + 1]
        counts, rng = np.diff(before), self._rng(3, day, lo)
        minute, place = np.repeat(np.arange(hi - lo), counts), np.arange(before[0], before[-1])
        time_us = _unique(np.sort(minute * MINUTE_US + rng.integers(0, DRAWN_US, len(minute)))) + start_us
        ids = day * IDS_A_DAY + REGULAR_IDS + place * GAP + rng.integers(0, GAP, len(place))
        level, volatility = plan.level[lo : hi + 1], plan.volatility[lo:hi]
        ticks = price_path(rng, minute, counts, level=level, volatility=volatility, decimals=DECIMALS)
        ticks, size, conditions = self._kinds(rng, ticks, place, int(plan.before[-1]), auction=session.whole)
        return _prints(rng, time_us, ids, ticks, size, conditions)

    def _kinds(
        self, rng: np.random.Generator, ticks: Ints, place: Ints, total: int, *, auction: bool
    ) -> tuple[Ints, Ints, Ints]:
        """Price, size and conditions of a session's trades of those places among `total`."""
        amount = len(place)
        usual = np.exp(rng.normal(math.log(self.listing.usual_size), 1.0, amount)).astype(np.int64)
        if auction:  # Istanbul has a lot of one share and auctions of its own
            return ticks, np.maximum(1, usual), np.full(amount, ISTANBUL)
        draw, odd = rng.random(amount), rng.random(amount) < self.listing.odd
        size = np.where(odd, rng.integers(1, 100, amount), 100 + usual)
        conditions = np.where(odd, ODD_LOT, np.where(draw < SWEEP_SHARE, SWEEP, REGULAR))
        special = draw > 1 - SPECIAL_SHARE
        conditions = np.where(special, rng.choice(SPECIAL, amount), conditions)
        size = np.where(special, 100 + usual, size)
        aside = np.rint(ticks * np.exp(rng.normal(0, 0.004, amount))).astype(np.int64)  # off the market
        ticks = np.where(special, np.maximum(1, aside), ticks)
        for which, code in ((place == 0, OPENING), (place == total - 1, CLOSING)):
            conditions, size = np.where(which, code, conditions), np.where(which, 20 * (100 + usual), size)
        return ticks, size, conditions

    def _around(self, session: Session, part: int) -> Prints:
        """The few prints before the opening or after the close: auctions, or extended hours."""
        day, plan, opening = session.date_us // DAY_US, self._plan(session), part == BEFORE
        rng = self._rng(4, day, -part)
        pause = 0 if opening else self.hours.rules.pause * MINUTE_US
        lo_us, hi_us = (session.lo_us, session.open_us) if opening else (session.close_us + pause, session.hi_us)
        amount = int(rng.integers(3, 13))
        minute = np.sort(rng.integers(0, (hi_us - lo_us) // MINUTE_US, amount))
        time_us = _unique(np.sort(minute * MINUTE_US + rng.integers(0, DRAWN_US, amount))) + lo_us
        ids = day * IDS_A_DAY + (0 if opening else AFTER_IDS) + np.arange(amount) * GAP + rng.integers(0, GAP, amount)
        price = math.exp(plan.level[0 if opening else -1]) * 10**DECIMALS
        if session.whole:
            ticks = np.full(amount, max(1, round(price)), np.int64)
            size = np.exp(rng.normal(math.log(5 * self.listing.usual_size), 1.0, amount)).astype(np.int64) + 1
            return _prints(rng, time_us, ids, ticks, size, np.full(amount, OPENING if opening else CLOSING))
        ticks = np.maximum(1, np.rint(price * np.exp(rng.normal(0, 0.003, amount)))).astype(np.int64)
        odd = rng.random(amount) < self.listing.odd
        size = np.where(odd, rng.integers(1, 100, amount), rng.integers(100, 1000, amount))
        return _prints(rng, time_us, ids, ticks, size, np.where(odd, EXTENDED_ODD, EXTENDED))


def _unique(time_us: Ints) -> Ints:
    """Sorted times with equal ones moved apart."""
    place = np.arange(len(time_us))
    found: Ints = np.maximum.accumulate(time_us - place) + place
    return found


def _prints(rng: np.random.Generator, time_us: Ints, ids: Ints, ticks: Ints, size: Ints, conditions: Ints) -> Prints:
    venue = rng.choice(VENUES, len(ids))
    return Prints(time_us, ids, ticks * CENT, size, conditions, venue, np.zeros(len(ids), np.int64))
