"""An instrument's last 24 hours, from quarter hours summed up elsewhere and the newest bars; pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from app.domain.bars import Bar


class Day(NamedTuple):
    """The bars of a stretch in one: None and empty where it has none."""

    reference: float | None = None  # the last close before it
    open: float | None = None
    high: float | None = None
    low: float | None = None
    closes: Sequence[float] = ()  # oldest first
    volume: Decimal | None = None
    quote_volume: Decimal | None = None
    traded_ms: int | None = None  # the last trade, of the reference too

    @property
    def close(self) -> float | None:
        """The last price, that of the reference where nothing came after it."""
        return self.closes[-1] if self.closes else self.reference

    def followed_by(self, bars: Sequence[Bar]) -> Day:
        """The same stretch with these later bars, oldest first."""
        if not bars:
            return self
        traded = [bar for bar in bars if bar.volume]  # a polled source counts no trades
        highs, lows = [bar.high for bar in bars], [bar.low for bar in bars]
        return Day(
            self.reference,
            bars[0].open if self.open is None else self.open,
            max(highs if self.high is None else [self.high, *highs]),
            min(lows if self.low is None else [self.low, *lows]),
            [*self.closes, *(bar.close for bar in bars)],
            sum((bar.volume for bar in bars), self.volume or Decimal(0)),
            sum((bar.quote_volume for bar in bars), self.quote_volume or Decimal(0)),
            max(traded[-1].close_time // 1000, traded[-1].time_ms) if traded else self.traded_ms,
        )
