"""A scripted Alpaca inside the test's event loop: it says what the test tells it to, and a streamer that listens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
from aiohttp import WSMsgType, web

from app.bootstrap import platform
from app.config import load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.official import Doubt
from app.domain.sessions import Session
from app.wire import alpaca as wire
from app.wire import alpaca_values as values
from app.wire import numbers
from streamers.alpaca import AlpacaStreamer, StockPorts
from streamers.daemon import Ports, Shard
from tests.streaming import Collected

OPEN_US = numbers.parse_time("2024-03-08T14:30:00Z")
CLOSE_US = numbers.parse_time("2024-03-08T21:00:00Z")
SESSION = Session(OPEN_US // 1000 // 86_400_000 * 86_400_000, OPEN_US // 1000, CLOSE_US // 1000)
NOW_US = OPEN_US + 30 * 60_000_000  # when the door's clock starts


@dataclass
class Door:
    """Alpaca's stream and clock; `sockets` are the connections that have subscribed, newest last."""

    now_us: int = NOW_US
    refuse: tuple[int, str] | None = None  # answers to whoever authenticates
    most_symbols: int = 1000
    attempts: int = 0
    attempts_s: list[float] = field(default_factory=list)  # when
    keys: list[tuple[str, str]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    url: str = ""
    _started_s: float = field(default_factory=time.monotonic)

    async def send(self, *messages: Any) -> None:
        """One frame to the newest connection."""
        await self.sockets[-1].send_bytes(wire.build_frame(messages))

    async def send_raw(self, frame: bytes) -> None:
        """Bytes to the newest connection."""
        await self.sockets[-1].send_bytes(frame)

    async def drop(self) -> None:
        """Ends the newest connection."""
        await self.sockets.pop().close()

    async def clock(self, request: web.Request) -> web.Response:
        """The simulated market's clock, at the pace of the wall."""
        now_us = self.now_us + int((time.monotonic() - self._started_s) * 1e6)
        return web.json_response({"exchange_us": now_us, "speed": 1.0, "wall_us": time.time_ns() // 1000, "epoch": 1})

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Handshake, then subscriptions."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.attempts += 1
        self.attempts_s.append(time.monotonic())
        await socket.send_bytes(wire.build_frame([wire.build_success("connected")]))
        asked = msgpack.unpackb((await socket.receive()).data)
        self.keys.append((asked["key"], asked["secret"]))
        if self.refuse:
            await socket.send_bytes(wire.build_frame([wire.build_error(*self.refuse)]))
            await socket.close()
            return socket
        await socket.send_bytes(wire.build_frame([wire.build_success("authenticated")]))
        channels: dict[str, set[str]] = {}
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            await self._answer(socket, msgpack.unpackb(message.data), channels)
        if socket in self.sockets:
            self.sockets.remove(socket)
        return socket

    async def _answer(
        self, socket: web.WebSocketResponse, request: dict[str, Any], channels: dict[str, set[str]]
    ) -> None:
        self.requests.append(request)
        action = request.pop("action")
        if action == "subscribe" and len(channels.get("trades", set()) | set(request["trades"])) > self.most_symbols:
            await socket.send_bytes(wire.build_frame([wire.build_error(405, "symbol limit exceeded")]))
            return
        for name, symbols in request.items():
            held = channels.setdefault(name, set())
            held |= set(symbols) if action == "subscribe" else set()
            held -= set(symbols) if action == "unsubscribe" else set()
        told = {name: sorted(symbols) for name, symbols in channels.items()}
        told["corrections"] = told["cancelErrors"] = told["trades"]
        await socket.send_bytes(wire.build_frame([wire.build_subscription(told)]))
        if socket not in self.sockets:
            self.sockets.append(socket)


@asynccontextmanager
async def door(**options: Any) -> AsyncIterator[Door]:
    """A door on a free port."""
    held = Door(**options)
    application = web.Application()
    application.add_routes([web.get("/v2/iex", held.stream), web.get("/sandbox/clock", held.clock)])
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    held.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield held
    finally:
        await asyncio.wait_for(runner.cleanup(), 60)


def stock(id: int, symbol: str) -> Instrument:
    """An Alpaca instrument."""
    return Instrument(id, Exchange.ALPACA, symbol, symbol, "stock", "USD", "XNYS", True, 2)


def trade(symbol: str, offset_s: float, price: float, size: float = 100, *codes: str, id: int = 1) -> dict[str, Any]:
    """The message of a print so long after the opening."""
    time_us = OPEN_US + round(offset_s * 1e6)
    item = values.Print(symbol, time_us, id, "V", numbers.to_e8(price), numbers.to_e8(size), codes or ("@",), "C")
    return wire.build_print(item)


@dataclass
class Told:
    """The store of quotes and halts, in memory."""

    books: dict[str, bytes] = field(default_factory=dict)
    standing: dict[str, bytes] = field(default_factory=dict)
    calls: int = 0

    def halts(self) -> list[str]:
        """What stands still."""
        return list(self.standing)

    def tell(self, books: Mapping[str, bytes], halts: Mapping[str, bytes], over: Sequence[str]) -> None:
        """Keeps what it is told."""
        self.calls += 1
        self.books.update(books)
        self.standing.update(halts)
        for key in over:
            self.standing.pop(key, None)


class Queue(Collected):
    """The queue of trades and of official bars."""

    @property
    def doubts(self) -> list[Doubt]:
        """Every doubt, in the order of hand-over."""
        return [doubt for batch in list(self.officials) for doubt in batch.doubts]


@dataclass
class Streaming:
    """What a test holds of a running streamer."""

    streamer: AlpacaStreamer
    queue: Queue
    store: Told
    watchlist: list[Instrument]
    beats: list[Mapping[str, Any]]
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def until(self, happened: Callable[[], Any], seconds: float = 20.0) -> None:
        """Returns once `happened`; fails after so many seconds, or with the streamer's own error."""
        end_s = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end_s, f"not in {seconds} s: {self.streamer.facts()}"
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """Stops the streamer as SIGTERM does, and waits."""
        self.stop.set()
        await asyncio.wait_for(self.task, 20)

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped or refused, by reason."""
        return dict(self.streamer.stats.dropped)


@asynccontextmanager
async def streaming(
    url: str, *symbols: str, sessions: Sequence[Session] = (SESSION,), refused_s: float = 300.0, **options: Any
) -> AsyncIterator[Streaming]:
    """A streamer that follows `symbols` (ids 1, 2, …) at `url`; `options` are settings."""
    found = {
        "binance_api_url": url, "alpaca_stream_url": url.replace("http", "ws", 1), "market": "sandbox",
        "_env_file": None, **options,
    }  # fmt: skip
    settings, queue, store = load_settings(**found), Queue(), Told()
    watchlist, beats = [stock(i, symbol) for i, symbol in enumerate(symbols, 1)], list[Mapping[str, Any]]()

    def beat(facts: Mapping[str, Any], reasons: Counter[str]) -> Counter[str]:
        beats.append(facts)
        return Counter()

    clock = platform(load_settings(**{**found, "market": "sandbox"})).clock
    ports = Ports(clock, queue, lambda: list(watchlist), lambda _s: time.sleep(0.1), beat)
    stock_ports = StockPorts(lambda _calendar, _lo, _hi: list(sessions), store)
    streamer, stop = AlpacaStreamer(settings, ports, Shard(0, 1), stock_ports, refused_s=refused_s), asyncio.Event()
    task = asyncio.create_task(streamer.run(stop))
    held = Streaming(streamer, queue, store, watchlist, beats, stop, task)
    try:
        yield held
    finally:
        await held.end()
