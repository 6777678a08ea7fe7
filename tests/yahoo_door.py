"""Yahoo's door for tests: the simulated stock market on a free port, in a thread, with a clock the test turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from app.sandbox.stocks.listing import listings
from app.sandbox.stocks.market import StockMarket
from app.sandbox.truth import TrueBar
from app.sandbox.yahoo.door import YahooDoor

MINUTE_MS, DAY_MS = 60_000, 86_400_000


def at(text: str) -> int:
    """ISO 8601 UTC as ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@dataclass
class Door:
    """The door, its clock in ms, the charts asked of it, and what to answer in place of the next ones."""

    market: StockMarket
    now_ms: int
    url: str = ""
    asked: list[web.Request] = field(default_factory=list)
    instead: Callable[[web.Request], web.StreamResponse | None] | None = None
    halved: bool = False
    stands_ms: int | None = None  # Yahoo lists nothing newer than it had then

    def now_us(self) -> int:
        """The exchange's clock."""
        return self.now_ms * 1000

    def listed_us(self) -> int:
        """The clock of what the door lists."""
        return min(self.now_ms, self.now_ms if self.stands_ms is None else self.stands_ms) * 1000

    @property
    def speed(self) -> float:
        """Of the clock."""
        return 1.0

    def charts(self) -> list[str]:
        """The symbols asked for since the last look."""
        found = [request.match_info["symbol"] for request in self.asked]
        self.asked.clear()
        return found

    def truth(self, symbol: str, start_ms: int, end_ms: int, length_ms: int = MINUTE_MS) -> list[TrueBar]:
        """The true closed bars that start in [start, end)."""
        span = {"start_ms": start_ms, "end_ms": end_ms}
        return self.market.closed(symbol, length_ms, **span, now_us=self.now_us())


@contextmanager
def open_door(
    *symbols: str, now: str, delay_s: float = 0.0, history_hours: int = 24 * 31, rate: float = 1.0
) -> Iterator[Door]:
    """A door for `symbols`, its clock standing at `now`."""
    now_us = at(now) * 1000
    oldest_us = (now_us - history_hours * 3_600_000_000) // (DAY_MS * 1000) * (DAY_MS * 1000)
    market = StockMarket(listings(symbols, rate), seed=7, start_us=now_us, oldest_us=oldest_us)
    door = Door(market, at(now))
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=_serve, args=(loop, door, delay_s, ready, stop), name="yahoo-door")
    thread.start()
    try:
        assert ready.wait(10)
        yield door
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def _serve(
    loop: asyncio.AbstractEventLoop, door: Door, delay_s: float, ready: threading.Event, stop: asyncio.Event
) -> None:
    @web.middleware
    async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
        if "symbol" in request.match_info:
            door.asked.append(request)
            if door.instead is not None and (answer := door.instead(request)) is not None:
                return answer
        answered: web.StreamResponse = await handler(request)
        return answered

    async def serve() -> None:
        app = web.Application(middlewares=[watch])
        yahoo = YahooDoor(door.market, now_us=door.listed_us, delay_s=delay_s, revise=lambda: door.halved)
        app.add_routes(yahoo.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve())
    loop.close()
