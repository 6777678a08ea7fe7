"""How much of an exchange's history one request brings and how far back it goes: data, by exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.instruments import RULES, Exchange
from app.domain.timeframes import DAY_MS, Timeframe

M1, M5, M15, H1, H4, D1 = Timeframe


@dataclass(frozen=True, slots=True)
class Pages:
    """What to ask an exchange for at once."""

    bars: int  # a request brings at most so many
    days: Mapping[Timeframe, int] = field(default_factory=dict)  # and asks for so long a stretch; none: `bars` long
    back_days: Mapping[Timeframe, int] = field(default_factory=dict)  # the source knows nothing older; none: all

    @property
    def long(self) -> bool:
        """Whether a longer stretch may be asked for, since the source itself ends its answer after `bars`."""
        return not self.days

    def span_ms(self, tf: Timeframe) -> int:
        """The length of a request."""
        return self.days[tf] * DAY_MS if self.days else self.bars * tf.ms

    def oldest_ms(self, tf: Timeframe, now_ms: int) -> int:
        """The first bar that the source can still have."""
        back = self.back_days.get(tf)
        return 0 if back is None else tf.floor(now_ms - back * DAY_MS) + tf.ms


PAGES: dict[Exchange, Pages] = {
    Exchange.BINANCE: Pages(1000),
    # A page carries 10,000 bars. Two weeks hold ten sessions, of 960 minutes with the extended hours. 1h and 4h are
    # made of 15m.
    Exchange.ALPACA: Pages(10_000, {M1: 14, M5: 70, M15: 210, H1: 210, H4: 210, D1: 2000}),
    # Yahoo allows 8 days of 1m a request, 30 days back, and 60 days of 5m and 15m, of which 1h and 4h are made: a day
    # of margin kept, and the source's own windows.
    Exchange.YAHOO: Pages(
        10_000, {M1: 7, M5: 50, M15: 50, H1: 50, H4: 50, D1: 3650}, {M1: 29, M5: 59, M15: 59, H1: 59, H4: 59}
    ),
}


def settled_ms(exchange: Exchange, now_ms: int) -> int:
    """Up to when the exchange's history is settled: what it lacks of the time before is not there."""
    rules = RULES[exchange]
    return now_ms - (rules.delay_s + rules.history_lag_s) * 1000


def newest_ms(exchange: Exchange, now_ms: int) -> int:
    """Up to when it makes sense to ask: with flat bars a missing one is seen, without them only time can tell."""
    return now_ms if RULES[exchange].flat_bars else settled_ms(exchange, now_ms)
