"""The stock market: all stocks at the market's clock; what Alpaca's and Yahoo's doors and the truth read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.errors import BadInput
from app.sandbox.stock_faults import StockFault
from app.sandbox.stocks.amendments import Amendment, Kind
from app.sandbox.stocks.hours import DAY_US, MINUTE_US, Hours
from app.sandbox.stocks.listing import Listing
from app.sandbox.stocks.prints import Print, Prints
from app.sandbox.stocks.series import StockSeries
from app.sandbox.stocks.tape import StockTape
from app.sandbox.truth import TrueBar

DAILY_HISTORY_US = 500 * DAY_US  # daily bars reach back at least so far
BREATH_DAYS = 4


class StockMarket:
    """All stocks; Istanbul's end in `.IS`."""

    def __init__(self, listings: Iterable[tuple[Listing, float]], *, seed: int, start_us: int, oldest_us: int) -> None:
        """`listings` come with their trades a second; history of minutes begins at `oldest_us`."""
        self._listings, self._seed = list(listings), seed
        self._oldest_us, self._oldest_day_us = oldest_us, start_us // DAY_US * DAY_US - DAILY_HISTORY_US
        self._hours = {calendar: Hours(calendar) for calendar in ("XNYS", "XIST")}
        self.faults: list[StockFault] = []
        self._drawn_us = start_us
        self.series: dict[str, StockSeries] = {}
        self.reset(start_us)

    def reset(self, start_us: int) -> None:
        """Forget what was amended and what was computed; faults strike again from `start_us` on."""
        self.series.clear()
        for listing, per_second in self._listings:
            tape = StockTape(listing, self._hours[listing.calendar], seed=self._seed, per_second=per_second)
            oldest = {"oldest_us": self._oldest_us, "oldest_day_us": self._oldest_day_us}
            self.series[listing.symbol] = StockSeries(tape, **oldest)
        self._drawn_us = start_us

    def bars(
        self, symbol: str, length_ms: int, *, start_ms: int, end_ms: int, now_us: int, extended: bool = False
    ) -> list[TrueBar]:
        """The bars that start in [start, end), the last as it stands at `now_us`; none for a quiet minute.

        Prices and shares in 1e-8, turnover in 1e-16, as everywhere in the truth; ids are those of the prints that set
        open and close. 1d is the session's own bar under its date at 00:00 UTC. Without `extended`, minutes outside
        the session (Istanbul's auctions are inside) are left out. Raises KeyError for a stock that is not listed.
        """
        self.catch_up(now_us)
        return self.series[symbol].bars(length_ms, start_ms=start_ms, end_ms=end_ms, now_us=now_us, extended=extended)

    def closed(
        self, symbol: str, length_ms: int, *, start_ms: int, end_ms: int, now_us: int, extended: bool = False
    ) -> list[TrueBar]:
        """The same without those that are not complete at `now_us`."""
        found = self.bars(symbol, length_ms, start_ms=start_ms, end_ms=end_ms, now_us=now_us, extended=extended)
        while found and self.series[symbol].over_us(found[-1].time_ms, length_ms) > now_us:
            found.pop()
        return found

    async def warm_days(self, symbol: str, *, start_ms: int, end_ms: int, now_us: int) -> None:
        """Compute the daily bars of a long stretch, letting other work go on between."""
        series = self.series[symbol]
        sessions = series.hours.dated(max(start_ms * 1000, series.oldest_day_us), min(end_ms * 1000, now_us))
        for count, session in enumerate(sessions, 1):
            series.day(session, now_us)
            if count % BREATH_DAYS == 0:
                await asyncio.sleep(0)

    def prints(self, symbol: str, lo_us: int, hi_us: int, *, now_us: int) -> Prints:
        """The prints of [lo, hi) as told by `now_us`, canceled and corrected ones marked."""
        self.catch_up(now_us)
        return self.series[symbol].prints(lo_us, hi_us, now_us)

    def trade(self, symbol: str, row: Print, *, now_us: int) -> Amendment:
        """Report a print now; where its time is past, it is a late one. Raises BadInput outside the hours."""
        self.catch_up(now_us)
        return self._of(symbol).add(now_us, Kind.TRADE, None, row)

    def cancel(self, symbol: str, number: int, *, now_us: int) -> Amendment:
        """Cancel a print now; raises BadInput where there is none."""
        self.catch_up(now_us)
        series = self._of(symbol)
        return series.add(now_us, Kind.CANCEL, series.find(number, now_us), None)

    def correct(self, symbol: str, number: int, *, price: int, size: int, now_us: int) -> Amendment:
        """Correct a print now, price in 1e-4; raises BadInput where there is none."""
        self.catch_up(now_us)
        series = self._of(symbol)
        before = series.find(number, now_us)
        return series.add(now_us, Kind.CORRECT, before, before._replace(price=price, size=size))

    def add_fault(self, fault: StockFault, *, now_us: int) -> None:
        """Put a fault in force, for prints from now on."""
        self.catch_up(now_us)
        self.faults.append(fault)

    def clear_faults(self, *, now_us: int) -> None:
        """End all faults; what they have begun still happens."""
        self.catch_up(now_us)
        self.faults.clear()

    def catch_up(self, now_us: int) -> None:
        """Let the faults strike the prints up to `now_us`, whoever listens."""
        lo_us, self._drawn_us = self._drawn_us, max(self._drawn_us, now_us)
        if not self.faults or lo_us >= now_us:
            return
        for symbol, series in self.series.items():
            meant = [fault for fault in self.faults if fault.means(symbol)]
            for row in series.tape_prints(lo_us, now_us).rows() if meant else ():
                self._strike(series, meant, row)

    def _strike(self, series: StockSeries, faults: list[StockFault], row: Print) -> None:
        """At most one fault for a print: what becomes of it afterwards stays simple to tell."""
        fault = next((fault for fault in faults if fault.strikes(series.listing.symbol, row.id, row.time_us)), None)
        if fault is None:
            return
        delay_us = fault.draw_delay_us()
        if fault.kind == "late_print":
            minute_end = (row.time_us // MINUTE_US + 1) * MINUTE_US
            series.add(minute_end + delay_us, Kind.LATE, row, None)
        elif fault.kind == "cancel":
            series.add(row.time_us + delay_us, Kind.CANCEL, row, None)
        else:
            price, size = fault.draw_correction(row.price, row.size)
            series.add(row.time_us + delay_us, Kind.CORRECT, row, row._replace(price=price, size=size))

    def _of(self, symbol: str) -> StockSeries:
        if symbol not in self.series:
            raise BadInput(f"symbol: {symbol!r} is not listed here")
        return self.series[symbol]
