"""Alpaca's doors put together: one pump behind the stream, one market behind both."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from app.sandbox.alpaca.hub import Hub
from app.sandbox.alpaca.keys import RequestLimit
from app.sandbox.alpaca.pump import StockPump
from app.sandbox.alpaca.rest import RestDoor
from app.sandbox.alpaca.streams import StreamDoor
from app.sandbox.fault_box import FaultBox, FaultList
from app.sandbox.market import Market
from app.sandbox.stocks.prints import Print


@dataclass(frozen=True, slots=True)
class AlpacaDoors:
    """What the server needs of them."""

    hub: Hub
    pump: StockPump
    routes: list[web.RouteDef]


def open_doors(market: Market, faults: FaultList, *, requests_per_minute: int) -> AlpacaDoors:
    """The doors of a market."""
    streamed = FaultBox[Print](faults, exchange="alpaca", wall_s=time.monotonic, now_us=market.now_us)
    hub = Hub()
    pump = StockPump(market, hub, streamed, wall_s=time.monotonic)
    rest = RestDoor(market, RequestLimit(requests_per_minute, wall_s=time.time))
    return AlpacaDoors(hub, pump, [*StreamDoor(hub, pump, streamed).routes(), *rest.routes()])
