"""The simulated market's own door, `/sandbox/…`: its clock, its truth, its faults. No exchange has these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.domain.trades import e8
from app.errors import BadInput
from app.sandbox.alpaca.pump import StockPump
from app.sandbox.answers import guarded, read_body, read_integer
from app.sandbox.binance.params import INTERVALS_MS
from app.sandbox.binance.pump import Pump
from app.sandbox.chaos import plan
from app.sandbox.fault_box import FaultList
from app.sandbox.faults import EXCHANGES, make_fault
from app.sandbox.market import Market
from app.sandbox.stock_faults import STOCK_KINDS, make_stock_fault
from app.sandbox.stocks.control import StockControl
from app.sandbox.truth import exact_json


class ControlDoor:
    """What tests, the platform's clock and curious people ask of the market itself."""

    def __init__(self, market: Market, pumps: tuple[Pump, StockPump], faults: FaultList, stocks: StockControl) -> None:
        """`pumps` are those of Binance's and of Alpaca's streams."""
        self._market, self._pumps, self._faults, self._stocks = market, pumps, faults, stocks
        self._pump = pumps[0]
        self._since = time.monotonic()

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        return [
            web.get("/sandbox/clock", guarded(self._clock)),
            web.get("/sandbox/health", guarded(self._health)),
            web.get("/sandbox/truth", guarded(self._truth)),
            web.get("/sandbox/faults", guarded(self._list_faults)),
            web.post("/sandbox/faults", guarded(self._add_fault)),
            web.post("/sandbox/faults/clear", guarded(self._clear_faults)),
            web.post("/sandbox/chaos", guarded(self._chaos)),
            web.post("/sandbox/start", guarded(self._start)),
            web.post("/sandbox/stop", guarded(self._stop)),
            web.post("/sandbox/trade", guarded(self._trade)),
        ]

    async def _clock(self, request: web.Request) -> dict[str, Any]:
        return dict(self._market.clock.describe())

    async def _health(self, request: web.Request) -> dict[str, Any]:
        return {
            "status": "ok",
            "symbols": {wire: series.spec.symbol for wire, series in self._market.series.items()},
            "stocks": self._stocks.health(),
            "connections": self._pump.connections,
            "sent_trades": self._pump.sent_trades,
            "alpaca": {"connections": self._pumps[1].connections, "sent_trades": self._pumps[1].sent_trades},
            "uptime_s": round(time.monotonic() - self._since, 3),
            **self._market.clock.describe(),
        }

    async def _truth(self, request: web.Request) -> dict[str, Any]:
        timeframe = request.query.get("timeframe", "1m")
        if timeframe not in INTERVALS_MS:
            raise BadInput(f"timeframe: {timeframe!r} is none of {', '.join(INTERVALS_MS)}")
        length, now_us = INTERVALS_MS[timeframe], self._market.now_us()
        if _exchange(request.query) != "binance":
            return await self._stocks.truth(request.query, timeframe, length)
        wire = _wire(request.query, self._market)
        start = read_integer(request.query, "start", 0)
        end = read_integer(request.query, "end", now_us // 1000)
        bars = await self._market.bars(wire, length, start_ms=start, end_ms=end, now_us=now_us)
        closed = [exact_json(bar) for bar in bars if (bar.time_ms + length) * 1000 <= now_us]
        return {"symbol": self._market.series[wire].spec.symbol, "timeframe": timeframe, "bars": closed}

    async def _list_faults(self, request: web.Request) -> dict[str, Any]:
        amending = [fault.describe() for fault in self._market.stocks.faults]
        return {"faults": [fault.describe() for fault in self._faults.items] + amending}

    async def _add_fault(self, request: web.Request) -> dict[str, Any]:
        return self._put(await read_body(request))

    def _put(self, options: dict[str, Any]) -> dict[str, Any]:
        """Put a fault in force; one without a trade to wait for strikes at once."""
        if options.get("kind") in STOCK_KINDS:
            amending = make_stock_fault(options)
            self._market.stocks.add_fault(amending, now_us=self._market.now_us())
            return amending.describe()
        fault = make_fault(options)
        if fault.at_once:
            fault.fired += 1
            for pump in self._pumps:
                pump.strike_now(fault)
        self._faults.add(fault)
        return fault.describe()

    async def _chaos(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        seed, until_us = body.get("seed"), body.get("until_us")
        if not isinstance(seed, int) or not isinstance(until_us, int) or until_us <= self._market.now_us():
            raise BadInput("chaos needs a seed and until_us, exchange time in microseconds that is to come")
        return {"faults": self.add_chaos(seed, until_us=until_us)}

    def add_chaos(self, seed: int, *, until_us: int) -> list[dict[str, Any]]:
        """Put everything that can go wrong in force, at random, from now to `until_us`; returns the faults."""
        options = plan(seed, start_us=self._market.now_us(), end_us=until_us, exchanges=EXCHANGES)
        return [self._put(one) for one in options]

    async def _clear_faults(self, request: web.Request) -> dict[str, Any]:
        self._faults.clear()
        self._market.stocks.clear_faults(now_us=self._market.now_us())
        return {"faults": []}

    async def _start(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        start, speed = body.get("start_us"), body.get("speed")
        if not isinstance(start, int | None) or not isinstance(speed, int | float | None) or (speed or 1) <= 0:
            raise BadInput("start_us must be microseconds and speed a number over 0")
        self._market.clock.restart(start_us=start, speed=speed)
        self._market.reset()
        for pump in self._pumps:
            pump.tick()
        return dict(self._market.clock.describe())

    async def _stop(self, request: web.Request) -> dict[str, Any]:
        self._market.clock.restart(running=False)
        self._market.reset()
        for pump in self._pumps:
            pump.tick()
        return dict(self._market.clock.describe())

    async def _trade(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        if _exchange(body) != "binance":
            return self._stocks.trade(body)
        wire = _wire(body, self._market)
        try:
            price, size = e8(str(body["price"])), e8(str(body["quantity"]))
        except (KeyError, ValueError) as error:
            raise BadInput(f"a trade needs symbol, price and quantity: {error}") from error
        row = self._pump.inject(wire, price, size, maker=bool(body.get("maker", False)))
        return {"id": row.id, "time_us": row.time_us, "symbol": wire}


def _exchange(values: Mapping[str, Any]) -> str:
    exchange = str(values.get("exchange") or "binance")
    if exchange not in EXCHANGES:
        raise BadInput(f"exchange: {exchange!r} is none of {', '.join(EXCHANGES)}")
    return exchange


def _wire(values: Mapping[str, Any], market: Market) -> str:
    wire = str(values.get("symbol", "")).upper().replace("/", "").replace("-", "")
    if wire not in market.series:
        raise BadInput(f"symbol: {values.get('symbol')!r} is not traded here")
    return wire
