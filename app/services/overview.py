"""The market overview: each watched instrument's last price, its last 24 hours and their shape."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.bars import Bar
from app.domain.day import Day
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.charts import complete

TF = Timeframe.M15
Quote = tuple[float, int]  # price and exchange time (ms) of a last trade
SPARKLINE_EVERY = 2  # of the 96 quarter hours of a day: 48 points
KEEP_S = 5.0  # how long sums of quarter hours are kept that only a repair changes
NEAR_MS, FAR_MS = 6 * DAY_MS, 400 * DAY_MS  # where the last bar of a silent instrument is looked for
FAR_KEEP_S = 60.0


class BarStore(Protocol):
    """Stored bars of several instruments."""

    def read_many(
        self, conn: sa.Connection, instruments: Iterable[int], tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[Bar]: ...


class DayStore(Protocol):
    """app.storage.screening, as far as the overview is told of it."""

    def days(
        self, conn: sa.Connection, instruments: Sequence[int], /, *, lo_ms: int, since_ms: int, hi_ms: int
    ) -> dict[int, Day]: ...
    def minutes(self, conn: sa.Connection, since: Mapping[int, int], /, *, lo_ms: int, hi_ms: int) -> list[Bar]: ...
    def last_minutes(
        self, conn: sa.Connection, instruments: Sequence[int], /, *, lo_ms: int, hi_ms: int
    ) -> dict[int, Bar]: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """The sums of the quarter hours before `tail_ms` of these instruments, good until a time.monotonic()."""

    tail_ms: int = 0
    ids: frozenset[int] = frozenset()
    days: dict[int, Day] = field(default_factory=dict)
    until: float = 0.0


class Overview:
    """Reads the overview of a list of instruments in three statements, and one or two more for those that are silent.

    The quarter hours of a day come summed up by the database, and are kept for some seconds: as bars of their own they
    cost a second of this process for five hundred instruments.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        bars: BarStore,
        days: DayStore,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._connect, self._bars, self._store, self._now_ms = connect, bars, days, now_ms
        self._reading = threading.Lock()  # of what is kept: who comes meanwhile waits, without a connection, and shares
        self._kept = _Kept()
        self._far: dict[int, tuple[float, Bar | None]] = {}

    def rows(self, instruments: Sequence[Instrument], quotes: Mapping[str, Quote]) -> list[dict[str, Any]]:
        """One row an instrument, in the given order; numbers are None where nothing is stored.

        `quotes` are last prices by Instrument.key; one newer than the stored bars takes their place.
        """
        now_ms = self._now_ms()
        ids = [instrument.id for instrument in instruments]
        tail_ms = TF.floor(now_ms) - TF.ms  # two quarter hours reach back over a roll-up that has not come yet
        days = self._days(ids, tail_ms)
        with self._connect() as conn:
            newest = self._newest(conn, ids, tail_ms, now_ms + DAY_MS)
            found = {key: days.get(key, Day()).followed_by(newest.get(key, ())) for key in ids}
            silent = [key for key in ids if found[key].close is None]
            last = self._near(conn, silent, now_ms) if silent else {}
        last |= self._older([key for key in silent if key not in last], now_ms)
        return [_row(item, found[item.id], last=last.get(item.id), quote=quotes.get(item.key)) for item in instruments]

    def _days(self, ids: Sequence[int], tail_ms: int) -> dict[int, Day]:
        """The quarter hours before the newest two."""
        wanted = frozenset(ids)
        with self._reading:
            kept = self._kept
            if kept.tail_ms != tail_ms or not wanted <= kept.ids or time.monotonic() > kept.until:
                since_ms = tail_ms + TF.ms - DAY_MS
                with self._connect() as conn:
                    days = self._store.days(conn, ids, lo_ms=since_ms - TF.ms, since_ms=since_ms, hi_ms=tail_ms)
                self._kept = kept = _Kept(tail_ms, wanted, days, time.monotonic() + KEEP_S)
            return kept.days

    def _newest(self, conn: sa.Connection, ids: Sequence[int], lo_ms: int, hi_ms: int) -> dict[int, list[Bar]]:
        """The newest two quarter hours as they stand this moment: roll-ups, and the minutes after them."""
        quarters = _by_instrument(self._bars.read_many(conn, ids, TF, start_ms=lo_ms, end_ms=hi_ms))
        since = {key: _rolled_up(quarters[key][-1]) if key in quarters else lo_ms for key in ids}
        minutes = _by_instrument(self._store.minutes(conn, since, lo_ms=lo_ms, hi_ms=hi_ms))
        return {key: complete(quarters.get(key, []), minutes.get(key, []), TF) for key in {*quarters, *minutes}}

    def _near(self, conn: sa.Connection, ids: Sequence[int], now_ms: int) -> dict[int, Bar]:
        """The last minute of instruments without a bar since yesterday."""
        return self._store.last_minutes(conn, ids, lo_ms=now_ms - NEAR_MS, hi_ms=now_ms + DAY_MS)

    def _older(self, ids: Sequence[int], now_ms: int) -> dict[int, Bar]:
        """The last minute of instruments without a bar for days; weeks of chunks are opened once a minute."""
        if not ids:
            return {}
        with self._reading:
            due = [key for key in ids if self._far.get(key, (0.0, None))[0] < time.monotonic()]
            if due:
                with self._connect() as conn:
                    older = self._store.last_minutes(conn, due, lo_ms=now_ms - FAR_MS, hi_ms=now_ms - NEAR_MS)
                self._far |= {key: (time.monotonic() + FAR_KEEP_S, older.get(key)) for key in due}
            return {key: bar for key in ids if (bar := self._far[key][1]) is not None}


def _by_instrument(bars: Iterable[Bar]) -> dict[int, list[Bar]]:
    return {key: list(group) for key, group in groupby(bars, key=lambda bar: bar.instrument_id)}


def _rolled_up(quarter: Bar) -> int:
    """The first minute (ms) that may hold trades which the roll-up does not."""
    if quarter.trade_count == 0:
        return quarter.time_ms
    last_ms = quarter.close_time // 1000
    return max(quarter.time_ms, last_ms - last_ms % MINUTE_MS)


def _row(instrument: Instrument, day: Day, *, last: Bar | None, quote: Quote | None) -> dict[str, Any]:
    price, time_ms = day.close, day.traded_ms
    if price is None and last is not None:
        price = last.close
        time_ms = max(last.close_time // 1000, last.time_ms) if last.volume else None
    if quote is not None and quote[1] > (time_ms or 0):
        price, time_ms = quote
    reference = day.open if day.reference is None else day.reference
    change = round((price / reference - 1) * 100, 4) if price is not None and reference and day.closes else None
    return {
        "exchange": instrument.exchange.value,
        "title": RULES[instrument.exchange].title,
        "symbol": instrument.symbol,
        "price_decimals": instrument.price_decimals,
        "currency": instrument.currency,
        "asset_class": instrument.asset_class,
        "calendar": instrument.calendar,
        "delay_s": RULES[instrument.exchange].delay_s,
        "price": price,
        "change_24h": change,
        "volume_24h": None if day.volume is None else float(round(day.volume, 8)),
        "quote_volume_24h": None if day.quote_volume is None else float(round(day.quote_volume, 8)),
        "high_24h": day.high,
        "low_24h": day.low,
        "sparkline": list(day.closes[::-1][::SPARKLINE_EVERY][::-1]),
        "time": time_ms,
    }
