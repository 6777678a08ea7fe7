"""An exchange with a steady stream of trades, in a process of its own: Binance's wire, exact truth, nothing else.

The simulated market makes its history at the rate of its stream, which is too much at thousands of trades a second.
Ids run without gaps, the clock is the machine's. `python -m tests.steady --rate 5000` prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from app.config import ROOT
from app.wire.binance import text_e8, text_e16

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
FIRST_ID = 1_000_000
TICK_S = 0.02
MINUTE_MS = 60_000


@dataclass
class Minute:
    """The true bar of a minute; prices and base sums in 1e-8, quote sums in 1e-16."""

    prices: list[int] = field(default_factory=list)  # open, high, low, close
    volume: int = 0
    quote: int = 0
    taker: int = 0
    first: int = 0
    last: int = 0

    def add(self, price: int, size: int, number: int, *, taker: bool) -> None:
        """A trade of the minute."""
        if not self.prices:
            self.prices, self.first = [price] * 4, number
        open_, high, low, _ = self.prices
        self.prices, self.last = [open_, max(high, price), min(low, price), price], number
        self.volume, self.quote = self.volume + size, self.quote + price * size
        self.taker += size if taker else 0

    def row(self, time_ms: int) -> list[Any]:
        """As /api/v3/klines lists it."""
        o, h, l, c = map(text_e8, self.prices)  # noqa: E741
        sums = text_e8(self.volume), text_e16(self.quote), text_e8(self.taker)
        count = self.last - self.first + 1
        return [time_ms, o, h, l, c, sums[0], time_ms + MINUTE_MS - 1, sums[1], count, sums[2], "0", "0"]

    def kline(self, symbol: str, time_ms: int) -> bytes:
        """As the stream tells it once it is over."""
        row = self.row(time_ms)
        names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
        k = {**dict(zip(names, row, strict=False)), "s": symbol, "i": "1m", "f": self.first, "L": self.last, "x": True}
        body = {"e": "kline", "E": time.time_ns() // 10**6, "s": symbol, "k": k}
        return orjson.dumps({"stream": f"{symbol.lower()}@kline_1m", "data": body})


class Exchange:
    """Makes trades, tells them to every socket that asked, and remembers what was."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.made = 0
        self.late_s = 0.0  # the longest this process was held up, since it was asked to begin anew
        self.made_at = time.monotonic()  # when the newest was made
        self.truth: dict[str, dict[int, Minute]] = {symbol: defaultdict(Minute) for symbol in SYMBOLS}
        self.times: list[int] = []  # ms of each trade of the first symbol
        self._prices = {symbol: (i + 1) * 100_00000000 for i, symbol in enumerate(SYMBOLS)}
        self._ids = dict.fromkeys(SYMBOLS, FIRST_ID)
        self._told = 0  # ms: the minute whose klines were told last
        self._sockets: dict[web.WebSocketResponse, tuple[set[str], asyncio.Queue[str]]] = {}

    async def run(self) -> None:
        """Makes trades for ever."""
        owed = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self.late_s = max(self.late_s, now - self.made_at - TICK_S)
            owed, self.made_at = owed + self.rate * (now - self.made_at), now
            now_ms = time.time_ns() // 10**6
            while owed >= 1:
                owed -= 1
                self._trade(SYMBOLS[self.made % len(SYMBOLS)], now_ms)
            self._klines(now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS)

    def _trade(self, symbol: str, now_ms: int) -> None:
        self.made += 1
        number, taker = self._ids[symbol], self.made % 3 == 0
        price = self._prices[symbol] = max(10**6, self._prices[symbol] + (self.made * 7919 % 201 - 100) * 10_000)
        size = 1_000_000 + self.made * 104_729 % 9_999_999
        self._ids[symbol] = number + 1
        self.truth[symbol][now_ms // MINUTE_MS * MINUTE_MS].add(price, size, number, taker=taker)
        if symbol == SYMBOLS[0]:
            self.times.append(now_ms)
        stream = f"{symbol.lower()}@trade"
        self._say(stream, (
            f'{{"stream":"{stream}","data":{{"e":"trade","E":{now_ms},"s":"{symbol}","t":{number},'
            f'"p":"{text_e8(price)}","q":"{text_e8(size)}","T":{now_ms},"m":{"false" if taker else "true"},"M":true}}}}'
        ))  # fmt: skip

    def _klines(self, time_ms: int) -> None:
        if time_ms == self._told:
            return
        self._told = time_ms
        for symbol in SYMBOLS:
            if time_ms in self.truth[symbol]:
                said = self.truth[symbol][time_ms].kline(symbol, time_ms).decode()
                self._say(f"{symbol.lower()}@kline_1m", said)

    def _say(self, stream: str, frame: str) -> None:
        for streams, frames in self._sockets.values():
            if stream in streams:
                frames.put_nowait(frame)

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """GET /stream."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        streams, frames = self._sockets[socket] = (set(), asyncio.Queue())
        sending = asyncio.create_task(_send(socket, frames))
        try:
            async for message in socket:
                asked = orjson.loads(message.data)
                change = streams.update if asked["method"] == "SUBSCRIBE" else streams.difference_update
                change(asked["params"])
                frames.put_nowait(json.dumps({"result": None, "id": asked["id"]}))
        finally:
            del self._sockets[socket]
            sending.cancel()
        return socket

    async def klines(self, request: web.Request) -> web.Response:
        """GET /api/v3/klines."""
        start, end = int(request.query["startTime"]), int(request.query["endTime"])
        minutes = self.truth[request.query["symbol"]] if request.query["interval"] == "1m" else {}
        found = [minutes[time_ms].row(time_ms) for time_ms in sorted(minutes) if start <= time_ms <= end]
        return web.json_response(found[: int(request.query.get("limit", 500))])

    async def now(self, _request: web.Request) -> web.Response:
        """GET /api/v3/time."""
        return web.json_response({"serverTime": time.time_ns() // 10**6})

    async def facts(self, request: web.Request) -> web.Response:
        """GET /facts: the truth, how many trades there were until when, and how long this process was held up.

        ?rate= sets the trades a second; ?anew=1 forgets after the answer how long it was held up.
        """
        self.rate = float(request.query.get("rate", self.rate))
        bars = {symbol: [minutes[t].row(t) for t in sorted(minutes)] for symbol, minutes in self.truth.items()}
        known = {"made": self.made, "made_at": self.made_at, "late_s": self.late_s, "bars": bars, "times": self.times}
        if request.query.get("anew"):
            self.late_s = 0.0
        return web.json_response(known)


async def _send(socket: web.WebSocketResponse, frames: asyncio.Queue[str]) -> None:
    while True:
        await socket.send_str(await frames.get())


async def _serve(port: int, rate: float) -> None:
    exchange, app = Exchange(rate), web.Application()
    app.add_routes([
        web.get("/stream", exchange.stream), web.get("/api/v3/klines", exchange.klines),
        web.get("/api/v3/time", exchange.now), web.get("/facts", exchange.facts),
    ])  # fmt: skip
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host = runner.addresses[0]
    print(f"http://{host[0]}:{host[1]}", flush=True)
    await exchange.run()


@dataclass(frozen=True, slots=True)
class Steady:
    """The running exchange, as a test sees it."""

    url: str

    def facts(self, **query: float) -> Any:
        """What it knows; `rate` sets its trades a second, `anew=1` begins to measure its delays from here on."""
        asked = "".join(f"?{name}={value}" for name, value in query.items())
        with urllib.request.urlopen(f"{self.url}/facts{asked}", timeout=30) as answer:
            return json.load(answer)


@contextmanager
def steady(rate: float) -> Iterator[Steady]:
    """The exchange in a process of its own, ended on the way out."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.steady", "--rate", str(rate)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Steady(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.rate))
