"""Alpaca's WebSocket door: `/v2/iex` and `/v2/sip`, authentication, subscriptions and refusals.

Protocol: https://docs.alpaca.markets/docs/streaming-market-data. A client that connects with Content-Type
application/msgpack speaks msgpack, others JSON.
"""

from __future__ import annotations

import time
from typing import Any

import msgpack
import orjson
from aiohttp import WSMsgType, web

from app.errors import BadInput
from app.sandbox.alpaca.hub import Client, Hub
from app.sandbox.alpaca.keys import KEY_HEADER, SECRET_HEADER, may_hear, welcome
from app.sandbox.alpaca.pump import StockPump
from app.sandbox.answers import guarded, read_body
from app.sandbox.binance.hub import PONG
from app.sandbox.fault_box import FaultBox
from app.sandbox.stocks.prints import Print
from app.wire import alpaca as wire

MAX_MESSAGE = 2**20
AUTH_S = 10.0
REFUSALS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    406: "connection limit exceeded",
    409: "insufficient subscription",
}


class StreamDoor:
    """Takes clients in and answers their messages."""

    def __init__(self, hub: Hub, pump: StockPump, faults: FaultBox[Print], *, auth_s: float = AUTH_S) -> None:
        self._hub, self._pump, self._faults, self._auth_s = hub, pump, faults, auth_s

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        return [
            web.get("/v2/{feed:iex|sip}", self._enter),
            web.post("/sandbox/halt", guarded(self._halt)),
        ]

    async def _halt(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        symbol = str(body.get("symbol", "")).upper()
        if symbol not in self._pump.symbols:
            raise BadInput(f"symbol: {body.get('symbol')!r} is not traded here")
        message = self._pump.halt(symbol, str(body.get("code", "H")), str(body.get("reason", "")))
        return {name: value for name, value in message.items() if name != "t"}

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        if time.monotonic() < self._pump.refuse_until:
            raise web.HTTPServiceUnavailable(text="the market is away")
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_MESSAGE)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        packed = "msgpack" in request.headers.get("Content-Type", "")
        client = Client(transport, feed=request.match_info["feed"], packed=packed)
        client.say(wire.build_success("connected"))
        try:
            key, secret = (request.headers.get(name, "") for name in (KEY_HEADER, SECRET_HEADER))
            if not key or self._authenticate(client, key, secret):
                await self._converse(socket, client)
        finally:
            self._hub.leave(client)
        await socket.close()
        return socket

    async def _converse(self, socket: web.WebSocketResponse, client: Client) -> None:
        ends = time.monotonic() + self._auth_s
        while not socket.closed:
            wait = None if client.key else max(0.001, ends - time.monotonic())
            try:
                message = await socket.receive(timeout=wait)
            except TimeoutError:
                self._refuse(client, 404)
                return
            if message.type is WSMsgType.PING:
                client.write(bytes(message.data), PONG)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                if not self._answer(client, message.data):
                    return
            elif message.type is not WSMsgType.PONG:
                return

    def _answer(self, client: Client, data: str | bytes) -> bool:
        """Answer one message; False where the connection ends with it."""
        body = _read(data)
        action = body.get("action") if isinstance(body, dict) else None
        if not isinstance(body, dict) or action not in ("auth", "subscribe", "unsubscribe"):
            self._refuse(client, 400)
            return True
        if action == "auth":
            if client.key:
                self._refuse(client, 403)
                return True
            return self._authenticate(client, str(body.get("key", "")), str(body.get("secret", "")))
        if not client.key:
            self._refuse(client, 401)
            return True
        return self._subscribe(client, body, add=action == "subscribe")

    def _authenticate(self, client: Client, key: str, secret: str) -> bool:
        if not welcome(key, secret) or self._faults.hit("auth"):
            refusal = 402
        elif not may_hear(key, client.feed):
            refusal = 409
        elif self._hub.taken(client.feed, key):
            refusal = 406
        else:
            self._pump.tick()  # so that it hears nothing of before
            self._hub.join(client, key)
            client.say(wire.build_success("authenticated"))
            return True
        self._refuse(client, refusal)
        return False

    def _subscribe(self, client: Client, body: dict[str, Any], *, add: bool) -> bool:
        channels = {name: body[name] for name in wire.CHANNELS if name in body}
        if not all(_symbols(symbols) for symbols in channels.values()):
            self._refuse(client, 400)
            return True
        self._pump.tick()  # prints of before are none of its
        client.change(channels, add=add)
        client.say(wire.build_subscription(client.listens()))
        return True

    @staticmethod
    def _refuse(client: Client, code: int) -> None:
        client.say(wire.build_error(code, REFUSALS[code]))


def _read(data: str | bytes) -> Any:
    """What a client sent, msgpack in a binary frame and JSON in a text; None where it is neither."""
    try:
        return orjson.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException):
        return None


def _symbols(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(symbol, str) and 0 < len(symbol) < 20 for symbol in value)
