"""The pump of stocks: brings what happened since the last tick to those who listen, in the market's order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from app.sandbox.alpaca.hub import Hub
from app.sandbox.alpaca.messages import Message, amendment_message, quote_message, wire_bar, wire_print
from app.sandbox.fault_box import FaultBox
from app.sandbox.faults import Fault
from app.sandbox.market import Market
from app.sandbox.stocks.amendments import Amendment, Kind
from app.sandbox.stocks.hours import MINUTE_US
from app.sandbox.stocks.prints import Print, Prints, prints_of
from app.sandbox.stocks.series import StockSeries
from app.sandbox.tape import FAR_US
from app.wire import alpaca as wire
from app.wire.alpaca_values import Status

TICK_S = 0.008
HALF_US = MINUTE_US // 2  # bars go out at the full minute, updated ones at the half
QUOTE_S = 0.25  # wall time between two quotes of a symbol
AHEAD_US = 30 * MINUTE_US  # prints are taken from the tape so far at once
MESSAGES = {
    "H": "Trading Halt",
    "T": "Trading Resumption",
    "Q": "Quotation Resumption",
    "P": "Volatility Trading Pause",
}


class Event(NamedTuple):
    """Something of a symbol at a time: a print, or an amendment."""

    at_us: int
    symbol: str
    row: Print | None
    item: Amendment | None


class Cursor:
    """Where a stock's stream stands: the rest of the prints taken from its tape."""

    def __init__(self, series: StockSeries, from_us: int) -> None:
        self._series, self._end_us = series, from_us
        self._rest: Prints = prints_of([])

    def take(self, upto_us: int) -> list[Print]:
        """The next prints before `upto`."""
        rows: list[Print] = []
        while self._end_us < upto_us:
            rows += self._rest.rows()
            start_us, self._end_us = self._end_us, self._end_us + AHEAD_US
            self._rest = self._series.tape_prints(start_us, self._end_us)
        if len(self._rest) and self._rest.time_us[0] < upto_us:
            ready = self._rest.window(0, upto_us)
            rows += ready.rows()
            self._rest = self._rest.cut(len(ready))
        return rows


class StockPump:
    """Sends prints and their amendments, bars at each minute's end and changed ones half a minute later."""

    def __init__(self, market: Market, hub: Hub, faults: FaultBox[Print], *, wall_s: Callable[[], float]) -> None:
        self._market, self._hub, self._faults, self._wall_s = market, hub, faults, wall_s
        self._cursors: dict[str, Cursor] = {}
        self._changed: set[tuple[int, str]] = set()
        self._quoted: dict[str, float] = {}
        self._sent_us, self._epoch = market.now_us(), market.clock.epoch
        self._speaks_at = 0.0
        self.refuse_until = 0.0
        self.sent_trades = 0

    @property
    def symbols(self) -> list[str]:
        """The stocks Alpaca knows: all but Istanbul's."""
        return [symbol for symbol in self._market.stocks.series if not symbol.endswith(".IS")]

    @property
    def connections(self) -> int:
        """How many clients listen."""
        return len(self._hub.clients)

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Send everything that is due."""
        now_us, wall = self._market.now_us(), self._wall_s()
        if self._epoch != self._market.clock.epoch:
            self._epoch, self._sent_us = self._market.clock.epoch, self._market.clock.start_us
            self._cursors.clear()
            self._changed.clear()
        if self._speaks_at and wall >= self._speaks_at:
            self._speaks_at = 0.0
            self._hub.silence_all(False)
        self._advance(now_us)
        for symbol, row in [] if self._faults.idle else self._faults.overdue():
            self._send_print(symbol, row)
        self._hub.flush()

    def strike_now(self, fault: Fault) -> None:
        """Let a fault that waits for no trade strike."""
        if fault.concerns(self._faults.exchange, "stream"):
            self._strike(fault)

    def halt(self, symbol: str, code: str, reason: str) -> Message:
        """Tell of a trading status now; returns the message."""
        now_us, tape = self._market.now_us(), self._market.stocks.series[symbol].listing.tape
        word, said = MESSAGES.get(code, code), (reason, reason)
        message = wire.build_status(Status(symbol, now_us, code, word, *said, tape=tape))
        self._hub.send("statuses", symbol, message)
        self._hub.flush()
        return message

    def _advance(self, now_us: int) -> None:
        self._market.stocks.catch_up(now_us)
        if not self._hub.clients:
            self._sent_us = max(self._sent_us, now_us)
            self._cursors.clear()
            self._changed.clear()
            return
        while self._sent_us < now_us:
            edge = (self._sent_us // HALF_US + 1) * HALF_US
            upto = min(now_us, edge)
            self._send_events(upto)
            self._sent_us = upto
            if upto == edge:
                self._send_changed(edge) if edge % MINUTE_US else self._send_bars(edge)

    def _send_events(self, upto_us: int) -> None:
        events: list[Event] = []
        listened = self._hub.heard("trades", self.symbols) | self._hub.heard("quotes", self.symbols)
        for symbol in self._cursors.keys() - listened:
            del self._cursors[symbol]
        for symbol in listened:
            events += self._prints(symbol, upto_us)
        for symbol in self.symbols:
            events += self._amendments(symbol, upto_us)
        for event in sorted(events, key=lambda event: event[:2]):  # stable: prints of a symbol stay in order
            if event.row is not None:
                self._send_through_faults(event.symbol, event.row)
            elif event.item is not None:
                self._send_amendment(event.symbol, event.item)

    def _send_amendment(self, symbol: str, item: Amendment) -> None:
        listing = self._market.stocks.series[symbol].listing
        for client in self._hub.listeners("trades", symbol):
            message = amendment_message(listing, item, feed=client.feed)
            if message is not None:
                client.queue(message)

    def _prints(self, symbol: str, upto_us: int) -> list[Event]:
        series, cursor = self._market.stocks.series[symbol], self._cursors.get(symbol)
        if cursor is None:
            cursor = self._cursors[symbol] = Cursor(series, self._sent_us)
        held = series.amendments.held
        return [Event(row.time_us, symbol, row, None) for row in cursor.take(upto_us) if row.id not in held]

    def _amendments(self, symbol: str, upto_us: int) -> list[Event]:
        events: list[Event] = []
        for item in self._market.stocks.series[symbol].amendments.between(self._sent_us, upto_us):
            minute_us = item.time_us // MINUTE_US * MINUTE_US
            if minute_us + MINUTE_US <= item.at_us:
                self._changed.add((minute_us, symbol))
            row = item.before if item.kind is Kind.LATE else item.after if item.kind is Kind.TRADE else None
            events.append(Event(item.at_us, symbol, row, item))
        return events

    def _send_through_faults(self, symbol: str, row: Print) -> None:
        if self._faults.idle:
            self._send_print(symbol, row)
            return
        rows, strikes = self._faults.deliver(symbol, row)
        if any(fault.kind == "malformed" for fault in strikes):
            for client in self._hub.listeners("trades", symbol):
                client.mumble()
        for one, print_ in rows:
            self._send_print(one, print_)
        for fault in strikes:
            self._strike(fault)

    def _send_print(self, symbol: str, row: Print) -> None:
        listing = self._market.stocks.series[symbol].listing
        for feed in ("iex", "sip"):
            clients = [client for client in self._hub.listeners("trades", symbol) if client.feed == feed]
            if clients:
                message = wire.build_print(wire_print(listing, row, feed=feed))
                for client in clients:
                    client.queue(message)
                self.sent_trades += 1
        wall = self._wall_s()
        if wall >= self._quoted.get(symbol, 0.0) and self._hub.listeners("quotes", symbol):
            self._quoted[symbol] = wall + QUOTE_S
            self._hub.send("quotes", symbol, quote_message(listing, row))

    def _send_bars(self, edge_us: int) -> None:
        stocks = self._market.stocks
        for symbol in sorted(self._hub.heard("bars", self.symbols)):
            bar = stocks.series[symbol].minute(edge_us - MINUTE_US, edge_us)
            if bar is not None:
                self._hub.send("bars", symbol, wire.build_bar(wire_bar(symbol, bar)))
        for symbol in sorted(self._hub.heard("dailyBars", self.symbols)):
            session = stocks.series[symbol].hours.at(edge_us - 1)
            day = stocks.series[symbol].day(session, edge_us) if session else None
            if day is not None:
                message = wire.build_bar(wire_bar(symbol, day, daily=True), "d")
                self._hub.send("dailyBars", symbol, message)

    def _send_changed(self, edge_us: int) -> None:
        heard = self._hub.heard("updatedBars", self.symbols)
        for minute_us, symbol in sorted(self._changed):
            bar = self._market.stocks.series[symbol].minute(minute_us, edge_us) if symbol in heard else None
            if bar is not None:
                self._hub.send("updatedBars", symbol, wire.build_bar(wire_bar(symbol, bar), "u"))
        self._changed.clear()

    def _strike(self, fault: Fault) -> None:
        if fault.kind in ("disconnect", "shutdown"):
            self.refuse_until = self._wall_s() + (fault.duration_s or 0)
            self._faults.forget_held()
            self._hub.cut_all()
        elif fault.kind == "silence":
            self._speaks_at = self._wall_s() + fault.duration_s if fault.duration_s else FAR_US
            self._hub.silence_all(True)
