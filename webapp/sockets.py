"""The WebSockets: /ws for many channels, /ws/<symbol> for one series, /ws/overview for all last prices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from flask import Flask, request
from flask_sock import Sock
from loguru import logger
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]

from app.metrics.recorded import socket_closed, socket_opened
from webapp import frames
from webapp.auth import EXPIRED, EXPIRED_TEXT, good_until
from webapp.channels import Channel, SeriesChannel
from webapp.clients import TRY_AGAIN_LATER, UNSUPPORTED, Client, Socket, Subscription
from webapp.composition import Web
from webapp.errors import describe
from webapp.live import Extent
from webapp.messages import BadMessage, Ping, read
from webapp.metrics import route
from webapp.schemas import LiveQuery
from webapp.session import Limits, Session
from webapp.whole_socket import Reading

LOOK_S = 5.0  # how often a socket that says nothing is looked at: it may be over, and nobody told
Hear = Callable[[str | bytes], None]


def install(app: Flask, web: Web) -> None:
    """Add the WebSocket routes to `app`."""
    settings = web.settings
    app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": settings.ws_message_bytes, "thread_class": Reading}
    sock = Sock(app)
    limits = Limits(settings.ws_channels, settings.ws_initial_bars, settings.chart_bars)

    @sock.route("/ws")  # type: ignore[untyped-decorator]
    def many(ws: Socket) -> None:
        def begin(client: Client) -> tuple[Hear, Callable[[], None]]:
            session = Session(web.hub, client, read_instruments=web.instruments, limits=limits)
            return session.hear, session.end

        _serve(web, ws, begin=begin)

    @sock.route("/ws/overview")  # type: ignore[untyped-decorator]
    def overview(ws: Socket) -> None:
        def begin(client: Client) -> tuple[Hear, Callable[[], None]]:
            subscription = client.subscribe(web.hub.initial_overview)
            web.hub.join(web.hub.overview, subscription)
            return _alone(web, client, web.hub.overview, subscription)

        _serve(web, ws, begin=begin)

    @sock.route("/ws/<path:symbol>")  # type: ignore[untyped-decorator]
    def series(ws: Socket, symbol: str) -> None:
        _serve(web, ws, begin=lambda client: _open_series(web, symbol, client))


def _open_series(web: Web, symbol: str, client: Client) -> tuple[Hear, Callable[[], None]]:
    query = LiveQuery.read(request.args)
    instrument = web.find(symbol, query.exchange.value if query.exchange else None)
    missed = [] if query.since is None else [query.since]

    def subscribe(channel: SeriesChannel) -> Subscription:
        def load() -> bytes:
            # The first `initial` fills the gap of a reconnect; a later one stands for the whole chart.
            return web.hub.initial(channel, Extent(query.indicators, since_ms=missed.pop() if missed else None))

        return client.subscribe(load)

    return _alone(web, client, *web.hub.join_series(instrument, query.timeframe, subscribe))


def _alone(web: Web, client: Client, channel: Channel, subscription: Subscription) -> tuple[Hear, Callable[[], None]]:
    """A socket with one channel: it hears pings, and leaves the channel at its end."""

    def hear(text: str | bytes) -> None:
        client.say(_answer(text))

    return hear, lambda: web.hub.leave(channel, subscription)


def _serve(web: Web, ws: Socket, *, begin: Callable[[Client], tuple[Hear, Callable[[], None]]]) -> None:
    """One connection from its first frame to its last; every error is told to the client, none ends the process."""
    members = web.hub.members
    if len(members) >= web.settings.ws_sockets:
        _refuse(ws, "too_many_sockets", f"all {web.settings.ws_sockets} places (WS_SOCKETS) are taken; try again later")
        return
    client = Client(ws, limit=web.settings.ws_queue)
    try:
        web.hub.start()
        hear, end = begin(client)
    except Exception as error:  # noqa: BLE001  # the handshake is done: an error can only be told as a message
        status, code, text = describe(error)
        logger.opt(exception=error if status == 500 else None).info("socket refused: {}", code)
        _refuse(ws, code, text, again=status >= 500)
        return
    members.enter(client)
    socket_opened(route())
    try:
        _listen(ws, client, hear, per_s=web.settings.ws_messages_per_s, until_s=good_until())
    except ConnectionClosed:
        logger.debug("client left")
    finally:
        end()
        socket_closed(route())
        members.exit(client)


def _listen(ws: Socket, client: Client, hear: Hear, *, per_s: float, until_s: float) -> None:
    """Hear what the client says, at most so many messages a second; what comes faster waits at its end.

    At `until_s` (by the clock) its token is good no more, and the connection ends.
    """
    credit, counted = per_s, time.monotonic()
    while not client.over:
        text = ws.receive(timeout=min(LOOK_S, max(0.1, until_s - time.time())))
        if time.time() >= until_s:
            client.say(frames.error(EXPIRED, EXPIRED_TEXT))
            client.close(UNSUPPORTED, EXPIRED)
            until_s = math.inf  # that is said once; what it says until it is gone is heard
        if text is None:
            continue
        now = time.monotonic()
        credit, counted = min(per_s, credit + (now - counted) * per_s) - 1, now
        if credit < 0:
            time.sleep(-credit / per_s)
        hear(text)


def _refuse(ws: Socket, code: str, text: str, *, again: bool = True) -> None:
    try:
        ws.sock.sendall(frames.error(code, text))
        ws.close(TRY_AGAIN_LATER if again else UNSUPPORTED, code)
    except OSError as error:
        logger.debug("refused client was gone already: {}", error)


def _answer(text: str | bytes) -> bytes:
    """The frame that answers a message on a socket with one channel, where pings alone are known."""
    try:
        message = read(text)
    except BadMessage as error:
        return frames.error("bad_message", str(error))
    if isinstance(message, Ping):
        return frames.answer("pong", id=message.id)
    return frames.error("bad_message", 'unknown here; the only one is {"type": "ping"}: /ws takes subscriptions')
