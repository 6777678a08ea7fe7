"""Binance's WebSocket door: `/ws`, `/ws/<streams>` and `/stream?streams=`, requests, pings and limits."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from app.sandbox.binance.hub import PING, PONG, Connection, Hub, ws_frame
from app.sandbox.binance.pump import Pump

MAX_STREAMS = 1024
MAX_MESSAGES_PER_S = 5
MAX_FRAME = 64 * 1024
MAX_ATTEMPTS, ATTEMPTS_S = 300, 300  # connections an address may open in five minutes


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """When the exchange pings and when it ends a connection, in wall seconds."""

    ping_s: float = 20.0
    pong_s: float = 60.0
    lifetime_s: float = 24 * 3600.0


class StreamDoor:
    """Takes connections in and answers their requests."""

    def __init__(self, hub: Hub, pump: Pump, limits: StreamLimits) -> None:
        self._hub, self._pump, self._limits = hub, pump, limits
        self._attempts: deque[float] = deque(maxlen=MAX_ATTEMPTS)  # loopback: one address

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        return [
            web.get("/ws", self._enter),
            web.get("/ws/{streams:.+}", self._enter),
            web.get("/stream", self._enter),
        ]

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        if time.monotonic() < self._pump.refuse_until:
            raise web.HTTPServiceUnavailable(text="the market is away")
        now = time.monotonic()
        if len(self._attempts) == MAX_ATTEMPTS and now - self._attempts[0] < ATTEMPTS_S:
            raise web.HTTPTooManyRequests(text="more than 300 connections in 5 minutes")
        self._attempts.append(now)
        combined = request.path == "/stream"
        listed = request.query.get("streams", "") if combined else request.match_info.get("streams", "")
        streams = [stream for stream in listed.split("/") if stream]
        if any(not _well_formed(stream) for stream in streams) or len(streams) > MAX_STREAMS:
            raise web.HTTPBadRequest(text="Invalid stream")
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_FRAME)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        connection = Connection(transport, combined=combined)
        self._hub.subscribe(connection, streams)
        try:
            await self._converse(socket, connection)
        finally:
            self._hub.leave(connection)
        return socket

    async def _converse(self, socket: web.WebSocketResponse, connection: Connection) -> None:
        now = time.monotonic()
        ends, next_ping, heard = now + self._limits.lifetime_s, now + self._limits.ping_s, now
        recent: deque[float] = deque(maxlen=MAX_MESSAGES_PER_S)
        while not socket.closed:
            try:
                message = await socket.receive(timeout=max(0.001, min(ends, next_ping) - time.monotonic()))
            except TimeoutError:
                now = time.monotonic()
                if now >= ends or now - heard > self._limits.pong_s:
                    connection.flush()
                    await socket.close(code=1008, message=b"disconnected")
                    return
                if now >= next_ping:
                    next_ping = now + self._limits.ping_s
                    self._say(connection, str(time.time_ns() // 1_000_000).encode(), PING)
                continue
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            heard = time.monotonic()
            if len(recent) == MAX_MESSAGES_PER_S and heard - recent[0] < 1:
                await socket.close(code=1008, message=b"Too many requests")
                return
            recent.append(heard)
            self._answer(connection, message.type, message.data)

    def _answer(self, connection: Connection, kind: WSMsgType, data: Any) -> None:
        if kind is WSMsgType.PING:
            self._say(connection, bytes(data), PONG)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._say(connection, orjson.dumps(self._reply(connection, data)))

    @staticmethod
    def _say(connection: Connection, payload: bytes, opcode: int | None = None) -> None:
        connection.queue(ws_frame(payload) if opcode is None else ws_frame(payload, opcode))
        connection.flush()

    def _reply(self, connection: Connection, data: str | bytes) -> dict[str, Any]:
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return _refuse(None, 3, f"Invalid JSON: {error}")
        if not isinstance(body, dict) or "method" not in body:
            return _refuse(None, 2, "Invalid request: missing field `method`")
        number, params = body.get("id"), body.get("params", [])
        if not isinstance(number, int | str | None):
            return _refuse(None, 2, "Invalid request: request ID must be an unsigned integer, a string or null")
        match body["method"]:
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(connection.streams), "id": number}
            case "SUBSCRIBE" | "UNSUBSCRIBE" as method:
                return self._change(connection, method, params, number)
            case "SET_PROPERTY" if isinstance(params, list) and params[:1] == ["combined"] and len(params) == 2:
                connection.combined = bool(params[1])
                return {"result": None, "id": number}
            case "GET_PROPERTY" if params == ["combined"]:
                return {"result": connection.combined, "id": number}
            case method:
                return _refuse(number, 2, f"Invalid request: unknown variant {method}, expected one of SUBSCRIBE, …")

    def _change(self, connection: Connection, method: str, params: Any, number: Any) -> dict[str, Any]:
        if not isinstance(params, list) or not params or not all(isinstance(stream, str) for stream in params):
            return _refuse(number, 2, "Invalid request: params must be a list of stream names")
        if not all(map(_well_formed, params)):
            return _refuse(number, 2, "Invalid request: invalid stream")
        if method == "UNSUBSCRIBE":
            self._hub.unsubscribe(connection, params)
        elif len({*connection.streams, *params}) > MAX_STREAMS:
            return _refuse(number, 2, f"Invalid request: more than {MAX_STREAMS} streams")
        else:
            self._hub.subscribe(connection, params)
        return {"result": None, "id": number}


def _well_formed(stream: str) -> bool:
    symbol, at, kind = stream.partition("@")
    return bool(symbol and at and kind) and stream.isascii() and len(stream) < 100


def _refuse(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "msg": message}, "id": number}
