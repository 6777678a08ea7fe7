"""Bars as columns: a page of an exchange's history on its way to the database, without an object a bar."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from app.domain.bars import Bar, Origin, State


@dataclass(frozen=True, slots=True)
class BarColumns:
    """The exchange's own bars of one instrument, oldest first, no time twice; times in ms, of trades in µs.

    Prices and sums are decimal text, the exchange's own where it sends text: the database reads it as it is.
    """

    instrument_id: int
    time_ms: list[int]
    open: list[str]
    high: list[str]
    low: list[str]
    close: list[str]
    volume: list[str]
    quote_volume: list[str]
    taker_buy_volume: list[str]
    trade_count: list[int]
    open_time: list[int]
    open_seq: list[int]
    close_time: list[int]
    close_seq: list[int]

    def __len__(self) -> int:
        return len(self.time_ms)

    @classmethod
    def of(cls, instrument_id: int, bars: Sequence[Bar]) -> BarColumns:
        """The bars of one instrument, in any order."""
        ordered = sorted(bars, key=lambda bar: bar.time_ms)
        columns: dict[str, Any] = {name: [getattr(bar, name) for bar in ordered] for name in _COLUMNS}
        columns |= {name: list(map(repr, columns[name])) for name in _PRICES}
        columns |= {name: list(map(str, columns[name])) for name in _SUMS}
        return cls(instrument_id, **columns)

    def between(self, lo_ms: int, hi_ms: int) -> BarColumns:
        """The bars with lo <= time < hi."""
        return self.part(slice(bisect_left(self.time_ms, lo_ms), bisect_left(self.time_ms, hi_ms)))

    def part(self, places: slice) -> BarColumns:
        """The bars in these places."""
        return BarColumns(self.instrument_id, *(getattr(self, name)[places] for name in _COLUMNS))

    def without(self, times_ms: Collection[int]) -> BarColumns:
        """The bars but those of these times."""
        if not times_ms:
            return self
        places = [place for place, time_ms in enumerate(self.time_ms) if time_ms not in times_ms]
        columns = (getattr(self, name) for name in _COLUMNS)
        return BarColumns(self.instrument_id, *([column[place] for place in places] for column in columns))

    def bars(self) -> list[Bar]:
        """The same as bars, verified."""
        prices = zip(self.open, self.high, self.low, self.close, strict=True)
        sums = zip(self.volume, self.quote_volume, self.taker_buy_volume, strict=True)
        trades = zip(
            self.trade_count, self.open_time, self.open_seq, self.close_time, self.close_seq, strict=True
        )  # fmt: skip
        return [
            Bar(
                self.instrument_id, time_ms, float(open_), float(high), float(low), float(close), Decimal(volume),
                Decimal(quote_volume), Decimal(taker), *counts, State.VERIFIED, 0, Origin.EXCHANGE,
            )
            for time_ms, (open_, high, low, close), (volume, quote_volume, taker), counts in zip(
                self.time_ms, prices, sums, trades, strict=True
            )
        ]  # fmt: skip


_COLUMNS = tuple(field.name for field in fields(BarColumns))[1:]
_PRICES = ("open", "high", "low", "close")
_SUMS = ("volume", "quote_volume", "taker_buy_volume")
