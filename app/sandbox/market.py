"""The market: a clock, every symbol's series and the stocks; what streams, REST and truth read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice

from app.sandbox.clock import MarketClock
from app.sandbox.series import HOUR_MS, Injected, Series
from app.sandbox.stocks.market import StockMarket
from app.sandbox.tape import Tape
from app.sandbox.truth import MINUTE_MS, TrueBar, longer_bars

BREATH_HOURS = 4  # hours of bars made between two looks at other work


class Market:
    """All symbols at the clock's time."""

    def __init__(
        self, clock: MarketClock, tapes: Iterable[tuple[Tape, int]], stocks: StockMarket | None = None
    ) -> None:
        """`tapes` come with the start (µs) of the history that may be asked for."""
        self.clock = clock
        self.stocks = stocks or StockMarket((), seed=0, start_us=clock.start_us, oldest_us=clock.start_us)
        self._tapes = list(tapes)
        self.series: dict[str, Series] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the injected trades, the amendments and what was computed."""
        self.stocks.reset(self.clock.start_us)
        self.series = {tape.spec.wire: Series(tape, oldest_us=oldest) for tape, oldest in self._tapes}

    def now_us(self) -> int:
        """The exchange's time."""
        return self.clock.now_us()

    def inject(self, wire: str, trade: Injected) -> None:
        """Add a trade of `wire`, at the earliest now; afterwards the clock shows a later time than the trade's."""
        self.series[wire].inject(trade)
        self.clock.push(trade.time_us + 1)

    async def bars(
        self, wire: str, length_ms: int, *, start_ms: int, end_ms: int, now_us: int, limit: int | None = None
    ) -> list[TrueBar]:
        """The bars that start in [start, end), the last as it stands at `now_us`; at most `limit`, the oldest."""
        series, minutes = self.series[wire], list[TrueBar]()
        oldest_ms = series.oldest_us // 1000
        start_ms = max(-(-start_ms // length_ms), oldest_ms // length_ms) * length_ms
        first_hour = max(start_ms, oldest_ms) // HOUR_MS * HOUR_MS
        stop_ms = min(-(-end_ms // length_ms) * length_ms, now_us // 1000 + 1)
        bars: list[TrueBar] = []
        for count, hour_ms in enumerate(range(first_hour, stop_ms, HOUR_MS), 1):
            minutes += [bar for bar in series.hour(hour_ms, now_us) if start_ms <= bar.time_ms < stop_ms]
            ripe = (hour_ms + HOUR_MS) // length_ms * length_ms
            done = sum(bar.time_ms < ripe for bar in minutes)
            bars += longer_bars(islice(minutes, done), length_ms)
            del minutes[:done]
            if limit is not None and len(bars) >= limit:
                return bars[:limit]
            if count % BREATH_HOURS == 0:
                await asyncio.sleep(0)
        return (bars + longer_bars(minutes, length_ms))[:limit]

    def bar_at(self, wire: str, length_ms: int, *, time_us: int, now_us: int) -> TrueBar | None:
        """The bar that holds `time_us`, as it stands at `now_us`; None before the first trade."""
        series = self.series[wire]
        start_ms = time_us // 1000 // length_ms * length_ms
        if length_ms == MINUTE_MS:
            return series.minute(start_ms, now_us)
        stop_ms, minutes = start_ms + length_ms, list[TrueBar]()
        for hour_ms in range(start_ms // HOUR_MS * HOUR_MS, min(stop_ms, now_us // 1000 + 1), HOUR_MS):
            minutes += [bar for bar in series.hour(hour_ms, now_us) if start_ms <= bar.time_ms < stop_ms]
        return next(iter(longer_bars(minutes, length_ms)), None)
