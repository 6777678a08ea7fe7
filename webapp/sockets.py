"""The WebSockets: /ws/<symbol> for one series, /ws/overview for all last prices."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from flask import Flask, request
from flask_sock import Sock
from loguru import logger
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]

from webapp import frames
from webapp.channels import Channel
from webapp.clients import TRY_AGAIN_LATER, UNSUPPORTED, Client, Socket
from webapp.composition import Web
from webapp.errors import describe
from webapp.schemas import LiveQuery

MAX_MESSAGE = 4096  # bytes a client may send at once
PONG = frames.text_frame(b'{"type":"pong"}')


def install(app: Flask, web: Web) -> None:
    """Add the WebSocket routes to `app`."""
    app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": MAX_MESSAGE}
    sock = Sock(app)

    @sock.route("/ws/overview")  # type: ignore[untyped-decorator]
    def overview(ws: Socket) -> None:
        _serve(web, ws, open_channel=lambda: (web.hub.overview, web.hub.initial_overview))

    @sock.route("/ws/<path:symbol>")  # type: ignore[untyped-decorator]
    def series(ws: Socket, symbol: str) -> None:
        _serve(web, ws, open_channel=lambda: _open_series(web, symbol))


def _open_series(web: Web, symbol: str) -> tuple[Channel, Callable[[], bytes]]:
    query = LiveQuery.read(request.args)
    instrument = web.find(symbol, query.exchange.value if query.exchange else None)
    channel = web.hub.series(instrument, query.timeframe)
    missed = [] if query.since is None else [query.since]

    def load() -> bytes:
        # The first `initial` fills the gap of a reconnect; a later one stands for the whole chart.
        return web.hub.initial(channel, query.indicators, since_ms=missed.pop() if missed else None)

    return channel, load


def _serve(web: Web, ws: Socket, *, open_channel: Callable[[], tuple[Channel, Callable[[], bytes]]]) -> None:
    """One connection from its first frame to its last; every error is told to the client, none ends the process."""
    try:
        web.hub.start()
        channel, load = open_channel()
    except Exception as error:  # noqa: BLE001  # the handshake is done: an error can only be told as a message
        _refuse(ws, error)
        return
    client = Client(ws, load, limit=web.settings.ws_queue)
    web.hub.join(channel, client)
    try:
        while True:
            client.offer(_answer(ws.receive()))
    except ConnectionClosed:
        logger.debug("client left")
    finally:
        web.hub.leave(channel, client)


def _refuse(ws: Socket, error: Exception) -> None:
    status, code, text = describe(error)
    logger.opt(exception=error if status == 500 else None).info("socket refused: {}", code)
    ws.sock.sendall(frames.error(code, text))
    ws.close(UNSUPPORTED if status < 500 else TRY_AGAIN_LATER, code)


def _answer(text: str | bytes) -> bytes:
    """The frame that answers a client's message; the only one known is {"type": "ping"}."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return frames.error("bad_message", "not JSON")
    kind = body.get("type") if isinstance(body, dict) else None
    if kind == "ping":
        return PONG
    return frames.error("bad_message", 'unknown message; the only one is {"type": "ping"}')
