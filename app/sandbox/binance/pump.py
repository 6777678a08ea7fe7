"""The pump: brings what happened on the market since the last tick to those who listen, in the market's order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.domain.timeframes import Timeframe
from app.domain.trades import Trade
from app.sandbox.binance.hub import Connection, Hub
from app.sandbox.fault_box import FaultBox
from app.sandbox.faults import Fault
from app.sandbox.market import Market
from app.sandbox.series import MINUTE_US, Injected, Series
from app.sandbox.tape import Columns, Row
from app.sandbox.truth import TrueBar
from app.wire.binance import STREAM_TIMEFRAMES, WireKline, build_kline_event, build_shutdown, build_trade_event

TICK_S = 0.008
BROKEN = b'{"e":"trade","E":'  # what a `malformed` fault sends
INTERIM_S = 1.0  # wall time between two looks at an unfinished kline, at any speed


class Cursor:
    """Where a symbol's stream stands: the rest of the block being sent."""

    def __init__(self, series: Series, from_us: int) -> None:
        self._series = series
        self._load(from_us)

    def _load(self, from_us: int) -> None:
        columns, self._end_us = self._series.block(from_us)
        self._rest: Columns = columns.window(from_us, self._end_us)
        self._version = self._series.version
        self._see()

    def _see(self) -> None:
        self._next_us = int(self._rest.time_us[0]) if len(self._rest) else self._end_us

    def take(self, sent_us: int, upto_us: int) -> list[Row]:
        """The trades of [sent, upto)."""
        if self._version != self._series.version:
            self._load(sent_us)
        rows: list[Row] = []
        while self._next_us < upto_us:
            ready = self._rest.window(0, upto_us)
            rows += ready.rows()
            self._rest = self._rest.cut(len(ready))
            if not len(self._rest) and self._end_us < upto_us:
                self._load(self._end_us)
            else:
                self._see()
                break
        return rows


class Pump:
    """Sends trades, and klines at each minute's end and once a second between."""

    def __init__(self, market: Market, hub: Hub, faults: FaultBox[Row], *, wall_s: Callable[[], float]) -> None:
        self._market, self._hub, self._faults, self._wall_s = market, hub, faults, wall_s
        self._cursors: dict[str, Cursor] = {}
        self._sent_us = market.now_us()
        self._epoch = market.clock.epoch
        self._interim_at = 0.0
        self._interim: list[tuple[str, str, Timeframe]] = []  # the klines of this round
        self._interim_sent = 0
        self._speaks_at = 0.0
        self._ends: list[tuple[float, set[Connection]]] = []  # announced
        self.refuse_until = 0.0
        self.sent_trades = 0

    @property
    def connections(self) -> int:
        """How many clients listen."""
        return len(self._hub.connections)

    def strike_now(self, fault: Fault) -> None:
        """Let a fault that waits for no trade strike."""
        if fault.concerns(self._faults.exchange, "stream"):
            self._strike(fault)

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
            self._faults.forget_held()
        if self._speaks_at and wall >= self._speaks_at:
            self._speaks_at = 0.0
            self._hub.silence_all(False)
        self._end_announced(wall)
        self._advance(now_us)
        for row_symbol, row in self._overdue():
            self._send_trade(row_symbol, row)
        self._send_interim(now_us, wall)
        self._hub.flush()

    def inject(self, wire: str, price: int, size: int, *, maker: bool) -> Row:
        """Have one trade of `wire` happen now, and send it; returns it with its id."""
        time_us = -(-max(self._market.now_us(), self._sent_us) // 1000) * 1000
        self._market.inject(wire, Injected(time_us, price, size, maker))
        self.tick()
        return next(self._market.series[wire].latest(1, time_us + 1).rows())

    def _advance(self, now_us: int) -> None:
        if not self._hub.by_stream:
            self._sent_us = max(self._sent_us, now_us)
            self._cursors.clear()
        while self._sent_us < now_us:
            edge = (self._sent_us // MINUTE_US + 1) * MINUTE_US
            upto = min(now_us, edge)
            self._send_trades(upto)
            self._sent_us = upto
            if upto == edge:
                self._send_closed(edge)

    def _send_trades(self, upto_us: int) -> None:
        listened = {stream[:-6].upper() for stream in self._hub.by_stream if stream.endswith("@trade")}
        for wire in self._cursors.keys() - listened:
            del self._cursors[wire]
        due: list[tuple[str, Row]] = []
        for wire in listened & self._market.series.keys():
            cursor = self._cursors.get(wire)
            if cursor is None:
                cursor = self._cursors[wire] = Cursor(self._market.series[wire], self._sent_us)
            due += [(wire, row) for row in cursor.take(self._sent_us, upto_us)]
        due.sort(key=lambda pair: (pair[1].time_us, pair[0]))  # stable: ids of a symbol stay in order
        for wire, row in due:
            if self._faults.idle:
                self._send_trade(wire, row)
            else:
                self._send_through_faults(wire, row)

    def _send_trade(self, wire: str, row: Row) -> None:
        trade = Trade(0, row.time_us, row.id, row.id, row.price, row.size, not row.maker)
        event_ms = row.time_us // 1000 + (0 if self._faults.idle else self._faults.skew_ms(row.time_us))
        self._hub.send(f"{wire.lower()}@trade", build_trade_event(wire, trade, event_ms=event_ms))
        self.sent_trades += 1

    def _send_through_faults(self, wire: str, row: Row) -> None:
        rows, strikes = self._faults.deliver(wire, row)
        if any(fault.kind == "malformed" for fault in strikes):
            self._hub.send(f"{wire.lower()}@trade", BROKEN)
        for symbol, one in rows:
            self._send_trade(symbol, one)
        for fault in strikes:
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        if fault.kind == "disconnect":
            self.refuse_until = self._wall_s() + (fault.duration_s or 0)
            self._faults.forget_held()
            self._hub.cut_all()
        elif fault.kind == "shutdown":
            self._hub.announce(build_shutdown(event_ms=self._market.now_us() // 1000))
            self._ends.append((self._wall_s() + (fault.duration_s or 0), set(self._hub.connections)))
        elif fault.kind == "silence":
            self._speaks_at = self._wall_s() + fault.duration_s if fault.duration_s else 0.0
            self._hub.silence_all(True)

    def _end_announced(self, wall: float) -> None:
        for at_s, connections in self._ends:
            if wall >= at_s:
                self._hub.cut(connections)
        self._ends = [end for end in self._ends if end[0] > wall]

    def _overdue(self) -> list[tuple[str, Row]]:
        return [] if self._faults.idle else self._faults.overdue()

    def _kline_streams(self) -> list[tuple[str, str, Timeframe]]:
        found = []
        for stream in self._hub.by_stream:
            name, _, kind = stream.partition("@")
            timeframe = STREAM_TIMEFRAMES.get(kind)
            if timeframe is not None and name.upper() in self._market.series:
                found.append((stream, name.upper(), timeframe))
        return found

    def _send_closed(self, edge_us: int) -> None:
        for stream, wire, timeframe in self._kline_streams():
            if edge_us % (timeframe.ms * 1000) == 0:
                self._send_kline(stream, wire, timeframe, edge_us - 1, closed=True)

    def _send_interim(self, now_us: int, wall: float) -> None:
        """Each unfinished kline once in INTERIM_S, some with each tick: a thousand at once would hold up the trades."""
        passed = min(1.0, (wall - self._interim_at) / INTERIM_S)
        due = int(len(self._interim) * passed)
        for stream, wire, timeframe in self._interim[self._interim_sent : due]:
            self._send_kline(stream, wire, timeframe, now_us, closed=False)
        self._interim_sent = due
        if passed == 1.0:
            self._interim, self._interim_sent, self._interim_at = self._kline_streams(), 0, wall

    def _send_kline(self, stream: str, wire: str, timeframe: Timeframe, time_us: int, *, closed: bool) -> None:
        end_us = time_us + 1 if closed else time_us
        bar = self._market.bar_at(wire, timeframe.ms, time_us=time_us, now_us=end_us)
        if bar is not None:
            kline = wire_kline(bar, wire, timeframe.value, timeframe.ms)
            event_ms = end_us // 1000 + self._faults.skew_ms(end_us)
            self._hub.send(stream, build_kline_event(kline, event_ms=event_ms, closed=closed))


def wire_kline(bar: TrueBar, wire: str, interval: str, length_ms: int) -> WireKline:
    """The true bar as the exchange's kline."""
    return WireKline(wire, interval, bar.time_ms, bar.time_ms + length_ms - 1, *bar[1:])
