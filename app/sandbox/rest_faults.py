"""Faults of the REST doors: every exchange's requests pass here first. The market's own door is never touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.sandbox.fault_box import FaultBox, FaultList
from app.sandbox.faults import EXCHANGES, Fault

KINDS = ("status", "slow", "truncated", "malformed", "refused", "unauthorized")
SLOW_S = 1.0
WAITS = (418, 429, 503)  # statuses that say when to come again
ALPACA_CODES = {401: 40110000, 403: 40310000, 418: 42910000, 429: 42910000}
_PREFIXES = {"/api/": "binance", "/v2/": "alpaca", "/v1beta3/": "alpaca", "/v8/": "yahoo", "/v1/test/": "yahoo"}


def exchange_of(request: web.BaseRequest) -> str | None:
    """Whose REST API a request is for; None for streams and for the market's own door."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return None
    if request.path == "/":
        return "yahoo"  # the page that gives the cookie
    return next((exchange for prefix, exchange in _PREFIXES.items() if request.path.startswith(prefix)), None)


def rest_faults(faults: FaultList, *, now_us: Callable[[], int]) -> Middleware:
    """The middleware that lets the faults strike; `now_us` is exchange time."""
    boxes: Mapping[str, FaultBox[Any]] = {
        exchange: FaultBox[Any](faults, exchange=exchange, wall_s=time.monotonic, now_us=now_us, door="rest")
        for exchange in EXCHANGES
    }

    @web.middleware
    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange = exchange_of(request)
        fault = boxes[exchange].hit(*KINDS, path=request.path_qs) if exchange else None
        if exchange is None or fault is None:
            return await handler(request)
        return await _ANSWERS[fault.kind](request, handler, fault, exchange)

    return strike


async def _status(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    status = fault.status or 503
    wait_s = fault.retry_after_s if fault.retry_after_s is not None else (1 if status in WAITS else None)
    return _refusal(exchange, status, {} if wait_s is None else {"Retry-After": str(wait_s)})


async def _unauthorized(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    return _refusal(exchange, fault.status or (401 if exchange == "yahoo" else 403), {})


async def _slow(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    await asyncio.sleep(SLOW_S if fault.duration_s is None else fault.duration_s)
    return await handler(request)


async def _refused(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    _hang_up(request)
    return web.Response(status=503)  # nobody is there to read it


async def _malformed(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    answer, body = await _whole(request, handler)
    return web.Response(body=body[: len(body) // 2] + b'\x00{"', status=answer.status, content_type=answer.content_type)


async def _truncated(request: web.Request, handler: Handler, fault: Fault, exchange: str) -> web.StreamResponse:
    """Half of the body behind a Content-Length for all of it."""
    whole, body = await _whole(request, handler)
    answer = web.StreamResponse(status=whole.status)
    answer.content_type, answer.content_length = whole.content_type, max(1, len(body))
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    _hang_up(request)
    return answer


async def _whole(request: web.Request, handler: Handler) -> tuple[web.StreamResponse, bytes]:
    answer = await handler(request)
    body = answer.body if isinstance(answer, web.Response) else b""
    return answer, bytes(body) if isinstance(body, bytes | bytearray) else b""


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _refusal(exchange: str, status: int, headers: dict[str, str]) -> web.Response:
    """A refusal in the exchange's own form."""
    if exchange == "yahoo":
        text = "Too Many Requests\r\n" if status == 429 else web.Response(status=status).reason
        return web.Response(text=text, status=status, headers=headers)
    return web.Response(
        body=orjson.dumps(_word(exchange, status)), status=status, headers=headers, content_type="application/json"
    )


def _word(exchange: str, status: int) -> dict[str, Any]:
    if exchange == "alpaca":
        words = {401: "unauthorized.", 403: "forbidden.", 418: "too many requests.", 429: "too many requests."}
        return {
            "code": ALPACA_CODES.get(status, 50010000),
            "message": words.get(status, "internal server error occurred"),
        }
    if status in (418, 429):
        return {"code": -1003, "msg": "Too much request weight used; please use WebSocket Streams for live updates."}
    if status in (401, 403):
        return {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
    return {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}


_ANSWERS: dict[str, Callable[[web.Request, Handler, Fault, str], Awaitable[web.StreamResponse]]] = {
    "status": _status,
    "slow": _slow,
    "truncated": _truncated,
    "malformed": _malformed,
    "refused": _refused,
    "unauthorized": _unauthorized,
}
