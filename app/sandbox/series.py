"""One symbol's market: its tape, the trades injected by hand, and its true bars."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.sandbox.tape import Columns, Row, Spec, Tape, join
from app.sandbox.truth import MINUTE_MS, TrueBar, minute_bars

HOUR_MS = 3_600_000
MINUTE_US = MINUTE_MS * 1000
CACHED_HOURS = 30


class Injected(NamedTuple):
    """A trade added by hand: it stands behind all trades of the tape up to its time."""

    time_us: int
    price: int
    size: int
    maker: bool


class Series:
    """The trades of one symbol from `oldest_us` on, and the bars they make."""

    def __init__(self, tape: Tape, *, oldest_us: int) -> None:
        self.tape = tape
        self.oldest_us = oldest_us
        self._injected: list[Injected] = []
        self._hours: OrderedDict[int, list[TrueBar]] = OrderedDict()
        self._running = self._done = -1
        self._minutes: list[TrueBar] = []
        self._last: tuple[tuple[int, int, int], list[TrueBar]] = ((-1, -1, -1), [])

    @property
    def spec(self) -> Spec:
        """The symbol's names and decimals."""
        return self.tape.spec

    @property
    def version(self) -> int:
        """Rises with each injected trade, which moves the ids of all later ones."""
        return len(self._injected)

    def inject(self, trade: Injected) -> None:
        """Add a trade; its time must not lie before what anyone has seen."""
        self._injected.append(trade)

    def block(self, time_us: int) -> tuple[Columns, int]:
        """The trades of the tape's block that holds `time_us`, injected ones among them, and the block's end."""
        columns, start_us, end_us = self.tape.block(time_us)
        return self._merge(columns, start_us, end_us), end_us

    def trades(self, lo_us: int, hi_us: int) -> Columns:
        """The trades with lo_us <= time < hi_us, none before the history's start."""
        lo_us = max(lo_us, self.oldest_us)
        parts, at = [], lo_us
        while at < hi_us:
            columns, _, at = self.tape.block(at)
            parts.append(columns.window(lo_us, hi_us))
        return self._merge(join(parts), lo_us, hi_us)

    def latest(self, limit: int, before_us: int) -> Columns:
        """The last `limit` trades before `before_us`."""
        span = MINUTE_US
        while True:
            found = self.trades(before_us - span, before_us)
            if len(found) >= limit or before_us - span <= self.oldest_us:
                return found.cut(max(0, len(found) - limit))
            span *= 4

    def since_id(self, first: int, limit: int, before_us: int) -> Columns:
        """Up to `limit` trades from id `first` on, of those before `before_us`."""
        start = max(self.oldest_us, self.tape.floor_us(max(0, first - len(self._injected))))
        span = MINUTE_US
        while True:
            found = self.trades(start, min(start + span, before_us))
            found = found.cut(int(np.searchsorted(found.id, first)))
            if len(found) >= limit or start + span >= before_us:
                return found.cut(0, limit)
            span *= 4

    def since_agg(self, first: int, limit: int, before_us: int) -> Columns:
        """The trades of up to `limit` aggregate trades from number `first` on, before `before_us`."""
        raw, size = self.tape.first_id(first - len(self._injected)), limit
        while True:
            found = self.since_id(raw, size, before_us)
            if len(found) < size or int(found.agg[-1]) >= first + limit:
                lo, hi = np.searchsorted(found.agg, (first, first + limit))
                return found.cut(int(lo), int(hi))
            size *= 2

    def since_time(self, start_us: int, limit: int, before_us: int) -> Columns:
        """The trades of at least `limit` aggregate trades from `start_us` on, before `before_us`, if there are."""
        start_us, span = max(start_us, self.oldest_us), MINUTE_US
        while True:
            found = self.trades(start_us, min(start_us + span, before_us))
            if start_us + span >= before_us or (len(found) and found.agg[-1] - found.agg[0] >= limit):
                return found
            span *= 4

    def latest_aggs(self, limit: int, before_us: int) -> Columns:
        """The trades of at least the last `limit` aggregate trades before `before_us`, if there are."""
        size = limit
        while True:
            found = self.latest(size, before_us)
            if len(found) < size or found.agg[-1] - found.agg[0] >= limit:
                return found
            size *= 2

    def close_before(self, time_us: int) -> int | None:
        """The price of the last trade before `time_us`, None before the first."""
        found = self.latest(1, time_us)
        return int(found.price[0]) if len(found) else None

    def minute(self, start_ms: int, now_us: int) -> TrueBar | None:
        """The bar of one minute as it stands at `now_us`; None before the first trade."""
        return next(iter(self._moment(start_ms, now_us)), None)

    def hour(self, start_ms: int, now_us: int) -> list[TrueBar]:
        """The minute bars of an hour up to the one that holds `now_us`, the last as it stands now."""
        if (start_ms + HOUR_MS) * 1000 <= now_us:
            found = self._hours.get(start_ms)
            if found is None:
                found = self._hours[start_ms] = self._bars(start_ms, start_ms + HOUR_MS, now_us)
                while len(self._hours) > CACHED_HOURS:
                    self._hours.popitem(last=False)
            return found
        return self._running_hour(start_ms, now_us)

    def _running_hour(self, start_ms: int, now_us: int) -> list[TrueBar]:
        current = now_us // MINUTE_US * MINUTE_MS
        if current < start_ms:
            return []
        if self._running != start_ms:
            self._running, self._done, self._minutes = start_ms, start_ms, []
        if current > self._done:
            self._minutes += self._bars(self._done, current, now_us)
            self._done = current
        done = [bar for bar in self._minutes if bar.time_ms < current]
        return done + self._moment(current, now_us)

    def _moment(self, start_ms: int, now_us: int) -> list[TrueBar]:
        """The bar of one minute; the last answer is kept, for several timeframes ask at the same moment."""
        key = (start_ms, now_us, self.version)
        if self._last[0] != key:
            self._last = key, self._bars(start_ms, start_ms + MINUTE_MS, now_us)
        return self._last[1]

    def _bars(self, start_ms: int, end_ms: int, now_us: int) -> list[TrueBar]:
        if end_ms * 1000 <= self.oldest_us or start_ms >= end_ms:
            return []
        start_ms = max(start_ms, self.oldest_us // MINUTE_US * MINUTE_MS)
        trades = self.trades(start_ms * 1000, min(end_ms * 1000, now_us))
        return minute_bars(trades, start_ms, end_ms, close=self.close_before(start_ms * 1000))

    def _merge(self, columns: Columns, lo_us: int, hi_us: int) -> Columns:
        """The tape's trades with the injected ones of [lo, hi) among them, all ids moved as these demand."""
        if not self._injected:
            return columns
        times = np.array([trade.time_us for trade in self._injected], np.int64)
        shift = np.searchsorted(times, columns.time_us, side="left")
        columns = replace(columns, id=columns.id + shift, agg=columns.agg + shift)
        rows = [self._number(k) for k, trade in enumerate(self._injected) if lo_us <= trade.time_us < hi_us]
        if not rows:
            return columns
        places = np.searchsorted(columns.time_us, [row.time_us for row in rows], side="right")
        return columns.with_rows(places, rows)

    def _number(self, k: int) -> Row:
        """Injected trade `k` with its ids: those of the tape's next trade, moved by the injected ones before."""
        trade = self._injected[k]
        last, last_agg = self.tape.last_ids(trade.time_us)
        return Row(trade.time_us, last + k + 1, last_agg + k + 1, trade.price, trade.size, trade.maker)
