"""A back end for the pages that needs no database: the real templates and files, made-up bars, faults on demand.

`python -m tests.browser.stub [port]` serves it by hand, with prices that move; the browser tests start it in-process
and call `trade`, `complete`, `drop` and the fault attributes themselves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import socket
import sys
import threading
import time
from typing import Any

from flask import Flask, Response, abort, render_template, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from werkzeug.serving import BaseWSGIServer, make_server

from app.config import ROOT
from app.domain.screen_fields import choices
from tests.browser import api_docs, status_stub
from tests.browser.generated import Row
from tests.browser.market import CRYPTO, Market
from tests.browser.screens import BadScreen, screen
from tests.browser.states import TITLES
from webapp import offline, security
from webapp.clients import TRY_AGAIN_LATER

ERRORS = {
    404: ("Nothing here", "unknown symbol 'BTC-USD' on binance", None),
    429: ("Too many requests", "one address may ask 1200 times a minute: wait 40 s", "40"),
    500: ("Something broke on our side", "something went wrong here; the log has the details", None),
    503: ("Not available right now", "the database cannot be reached; try again in a moment", "2"),
}


def create_app(market: Market, *, request_timeout_ms: int = 10_000) -> Flask:
    """The pages, the API and the sockets over a Market."""
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config["TEMPLATES_AUTO_RELOAD"] = True
    app.after_request(_read_whole)
    app.context_processor(
        lambda: {"request_timeout_ms": request_timeout_ms, "reads_need_token": market.token is not None}
    )
    security.install(app)
    offline.install(app)
    _pages(app, market)
    _api(app, market)
    _sockets(app, market)
    api_docs.install(app)
    status_stub.install(app, market)
    return app


def _read_whole(response: Response) -> Response:
    """Read a file before it is sent: where a browser hangs up in the middle, werkzeug's server never closes it."""
    if response.direct_passthrough:
        response.direct_passthrough = False
        body = b"".join(response.iter_encoded())
        response.close()
        response.set_data(body)
    return response


def _find(market: Market, symbol: str) -> Row:
    found = [one for one in market.instruments if one["symbol"].replace("/", "-") == symbol.replace("/", "-")]
    return found[0] if found else abort(404)


def _pages(app: Flask, market: Market) -> None:
    @app.get("/")
    def overview() -> str:
        return render_template("overview.html")

    @app.get("/multi")
    def multi() -> str:
        return render_template("multi.html")

    @app.get("/screener")
    def screener() -> str:
        return render_template("screener.html", choices=choices())

    @app.get("/charts/<exchange>/<path:symbol>")
    def chart(exchange: str, symbol: str) -> str:
        instrument = _find(market, symbol)
        if market.token is not None:
            instrument = instrument | {"price_decimals": None}  # as it is where reads need a token
        return render_template("chart.html", instrument=instrument)

    @app.get("/errors/<int:code>")
    def error(code: int) -> tuple[str, int]:
        near = [
            {"symbol": one["symbol"], "title": TITLES[one["exchange"]], "address": f"/charts/binance/{one['symbol']}"}
            for one in market.instruments[:3]
        ]
        title, message, wait = ERRORS[code]
        page = render_template(
            "error.html", code=code, title=title, message=message, near=near if code == 404 else [], retry_after=wait
        )
        return page, 200 if code in market.mended else code

    @app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        return render_template("error.html", code=404, message=f"There is no page {request.path}."), 404


def _api(app: Flask, market: Market) -> None:
    @app.before_request
    def faults() -> Response | None:
        if request.path.startswith("/ws/") and request.args.get("token") != market.token:
            return Response(status=401)
        if not request.path.startswith("/api/"):
            return None
        if market.token is not None and request.headers.get("Authorization") != f"Bearer {market.token}":
            market.refused.append(request.headers.get("Authorization", ""))
            refusal = {"error": {"code": "token_wrong", "message": "the token is not right"}}
            return Response(json.dumps(refusal), 401, mimetype="application/json")
        time.sleep(market.slow_s)
        if market.failing is None:
            return None
        body = {"error": {"code": "unavailable", "message": "The database cannot be reached."}}
        headers = {"Retry-After": market.retry_after} if market.retry_after else None
        return Response(json.dumps(body), market.failing, headers, mimetype="application/json")

    @app.get("/api/overview", endpoint="api-overview")
    def overview() -> Row:
        return market.overview()

    @app.get("/api/health", endpoint="api-health")
    def health() -> Row:
        return {"status": "down", "database": {"ok": False}, "redis": {"ok": True}}

    @app.get("/api/screener", endpoint="api-screener")
    def screened() -> Row | tuple[Row, int]:
        market.asked.append(request.full_path)
        try:
            return screen(market, request.args)
        except BadScreen as error:
            return {"error": {"code": "bad_parameter", "message": f"where: {error}"}}, 400

    @app.get("/api/symbols")
    def symbols() -> Row:
        return {
            "exchanges": [
                {
                    "exchange": name,
                    "title": title,
                    "symbols": [one for one in market.instruments if one["exchange"] == name],
                }
                for name, title in TITLES.items()
            ]
        }

    @app.get("/api/exchanges")
    def exchanges() -> Row:
        return {"exchanges": [{"exchange": name, "title": title} for name, title in TITLES.items()]}

    @app.get("/api/instruments")
    def instruments() -> Row:
        return {"instruments": [{**one, **market.states.facts(one["exchange"])} for one in market.instruments]}

    @app.get("/api/quotes")
    def quotes() -> Row:
        return {"quotes": [market.last(one) for one in market.instruments]}

    @app.get("/api/charts/<path:symbol>")
    def charts(symbol: str) -> Row:
        market.asked.append(request.full_path)
        asked = request.args
        names = [name for name in asked["indicators"].split(",") if name] if "indicators" in asked else None
        cut = {key: int(asked[key]) for key in ("start", "end") if key in asked}
        found = _find(market, symbol)["symbol"]
        return market.chart(found, asked["timeframe"], limit=int(asked.get("limit", 1000)), names=names, **cut)


def _sockets(app: Flask, market: Market) -> None:
    sock = Sock(app)

    @sock.route("/ws/<path:symbol>")
    def live(ws: Any, symbol: str) -> None:
        market.came.append(time.monotonic())
        if market.refusal is not None:
            ws.send(json.dumps({"type": "error", "data": market.refusal}))
            _end(ws, TRY_AGAIN_LATER)
            return
        if market.refusing:
            _end(ws)
            return
        if symbol == "overview":
            _serve(ws, market, key=("overview", ""), first=market.overview())
            return
        name, timeframe = _find(market, symbol)["symbol"], request.args["timeframe"]
        since = request.args.get("since")
        _serve(
            ws, market, key=(name, timeframe), first=market.chart(name, timeframe, start=int(since) if since else None)
        )


def _serve(ws: Any, market: Market, *, key: tuple[str, str], first: Row) -> None:
    waiting: queue.Queue[str | None] = queue.Queue()
    listener = (*key, waiting)
    market.sockets.append(listener)
    ws.send(json.dumps({"type": "initial", "data": first}))
    if key[0] != "overview":
        ws.send(json.dumps({"type": "status", "data": market.states.status(market.exchange(key[0]))}))
        ws.send(json.dumps({"type": "quote", "data": market.quote(key[0])}))
        ws.send(json.dumps({"type": "holes", "data": market.holes.get(key[0], [])}))
    threading.Thread(target=_pong, args=(ws, waiting), daemon=True).start()
    try:
        while ws.connected and (text := waiting.get()) is not None:
            ws.send(text)
    finally:
        market.sockets.remove(listener)
        _end(ws)


def _pong(ws: Any, waiting: queue.Queue[str | None]) -> None:
    """Answer the page's pings until it is gone."""
    with contextlib.suppress(ConnectionClosed):
        while ws.receive() is not None:
            waiting.put('{"type":"pong"}')


def _end(ws: Any, code: int | None = None) -> None:
    """Close for good: werkzeug would still write an HTTP answer after the closing frame."""
    with contextlib.suppress(ConnectionClosed, OSError):
        ws.close(code)
    with contextlib.suppress(OSError):
        ws.sock.shutdown(socket.SHUT_RDWR)


class Stub:
    """The stub on a free loopback port, served by threads of this process."""

    def __init__(self, *, port: int = 0, request_timeout_ms: int = 10_000) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.market = Market()
        app = create_app(self.market, request_timeout_ms=request_timeout_ms)
        self._server: BaseWSGIServer = make_server("127.0.0.1", port, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="stub", daemon=True)

    def start(self) -> Stub:
        """Serve from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut the sockets and stop serving."""
        self.market.drop()
        self._server.shutdown()
        self._server.server_close()


def move(market: Market, *, pause_s: float = 0.4) -> None:
    """Trades without end, a minute every 12 s: for looking at the pages by hand."""
    rng = random.Random(5)
    while True:
        began = time.monotonic()
        while time.monotonic() - began < 12:
            symbol = rng.choice(list(CRYPTO))
            last = market.minutes(symbol)[-1]["close"]
            market.trade(symbol, round(last * (1 + rng.gauss(0, 0.0003)), CRYPTO[symbol][1]))
            time.sleep(pause_s)
        for symbol in CRYPTO:
            market.complete(symbol)


if __name__ == "__main__":
    served = Stub(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0).start()
    print(served.url, flush=True)
    move(served.market)
