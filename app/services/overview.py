"""The market overview: each watched instrument's last price, its last 24 hours and their shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.bars import Bar
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import DAY_MS, Timeframe
from app.services.charts import complete

TF = Timeframe.M15
Quote = tuple[float, int]  # price and exchange time (ms) of a last trade
SPARKLINE_EVERY = 2  # of the 96 quarter hours of a day: 48 points


class BarStore(Protocol):
    """Stored bars of one or of several instruments."""

    def read(self, conn: sa.Connection, instrument_id: int, tf: Timeframe, /, *, limit: int = 1000) -> list[Bar]: ...

    def read_many(
        self, conn: sa.Connection, instruments: Iterable[int], tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[Bar]: ...


class Overview:
    """Reads the overview of a list of instruments in two queries, and one more for each that is silent."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        bars: BarStore,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._connect, self._bars, self._now_ms = connect, bars, now_ms

    def rows(self, instruments: Sequence[Instrument], quotes: Mapping[str, Quote]) -> list[dict[str, Any]]:
        """One row an instrument, in the given order; numbers are None where nothing is stored.

        `quotes` are last prices by Instrument.key; one newer than the stored bars takes their place.
        """
        now_ms = self._now_ms()
        ids = [instrument.id for instrument in instruments]
        start_ms = TF.floor(now_ms) - DAY_MS
        with self._connect() as conn:
            quarters = _by_instrument(
                self._bars.read_many(conn, ids, TF, start_ms=start_ms - TF.ms, end_ms=now_ms + DAY_MS)
            )
            # Two quarter hours reach back over a roll-up that has not come yet.
            minutes = _by_instrument(
                self._bars.read_many(conn, ids, Timeframe.M1, start_ms=TF.floor(now_ms) - TF.ms, end_ms=now_ms + DAY_MS)
            )
            found = {
                item.id: complete(quarters.get(item.id, []), _unrolled(quarters, minutes, item.id), TF)
                for item in instruments
            }
            for item in instruments:
                if not found[item.id]:
                    found[item.id] = self._bars.read(conn, item.id, Timeframe.M1, limit=1)
        return [_row(item, found[item.id], quote=quotes.get(item.key), start_ms=start_ms) for item in instruments]


def _by_instrument(bars: Iterable[Bar]) -> dict[int, list[Bar]]:
    return {key: list(group) for key, group in groupby(bars, key=lambda bar: bar.instrument_id)}


def _unrolled(quarters: Mapping[int, list[Bar]], minutes: Mapping[int, list[Bar]], instrument_id: int) -> list[Bar]:
    """The minutes from the newest quarter hour's start on: older quarter hours have theirs."""
    rows = quarters.get(instrument_id)
    newest_ms = rows[-1].time_ms if rows else 0
    return [bar for bar in minutes.get(instrument_id, []) if bar.time_ms >= newest_ms]


def _row(instrument: Instrument, bars: Sequence[Bar], *, quote: Quote | None, start_ms: int) -> dict[str, Any]:
    day = [bar for bar in bars if bar.time_ms >= start_ms]
    before = [bar for bar in bars if bar.time_ms < start_ms]
    traded = [bar for bar in bars if bar.volume]  # a polled source counts no trades
    price = bars[-1].close if bars else None
    time_ms = max(traded[-1].close_time // 1000, traded[-1].time_ms) if traded else None
    if quote is not None and quote[1] > (time_ms or 0):
        price, time_ms = quote
    reference = before[-1].close if before else day[0].open if day else None
    change = round((price / reference - 1) * 100, 4) if price is not None and reference and day else None
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
        "volume_24h": float(round(sum((bar.volume for bar in day[1:]), day[0].volume), 8)) if day else None,
        "quote_volume_24h": float(round(sum((bar.quote_volume for bar in day[1:]), day[0].quote_volume), 8))
        if day
        else None,
        "high_24h": max((bar.high for bar in day), default=None),
        "low_24h": min((bar.low for bar in day), default=None),
        "sparkline": [bar.close for bar in day[::-1][::SPARKLINE_EVERY][::-1]],
        "time": time_ms,
    }
