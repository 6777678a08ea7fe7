"""How the market's own door reads requests and answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from app.errors import BadInput

type Handler = Callable[[web.Request], Awaitable[web.Response]]


def guarded(answer: Callable[[web.Request], Awaitable[dict[str, Any]]]) -> Handler:
    """A handler that answers with JSON, and with status 400 where `answer` raises BadInput."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.Response(body=orjson.dumps(await answer(request)), content_type="application/json")
        except BadInput as error:
            body = orjson.dumps({"error": str(error)})
            return web.Response(body=body, status=400, content_type="application/json")

    return handle


async def read_body(request: web.Request) -> dict[str, Any]:
    """The JSON object a request carries, empty where it carries nothing; raises BadInput."""
    data = await request.read()
    try:
        body = orjson.loads(data) if data else {}
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadInput("the body must be a JSON object")
    return body


def read_integer(values: Mapping[str, str], name: str, default: int) -> int:
    """A number of milliseconds in a query; raises BadInput."""
    try:
        return int(values.get(name, default))
    except ValueError as error:
        raise BadInput(f"{name}: {values[name]!r} is not a number of milliseconds") from error
