"""A back end for the pages that needs no database: the real templates and files, made-up bars, faults on demand.

`python -m tests.browser.stub [port]` serves it by hand, with prices that move; the browser tests start it in-process
and call `trade`, `complete`, `drop` and the fault attributes themselves.
"""

from __future__ import annotations

import contextlib
import functools
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
from tests.browser.generated import MINUTE, NOW, STEPS, Row, bar, indicators, minutes, rolled_up

CRYPTO = {
    "BTC/USDT": (64_210.0, 2),
    "ETH/USDT": (3_184.2, 2),
    "SOL/USDT": (171.3, 2),
    "BNB/USDT": (602.4, 2),
    "ADA/USDT": (0.4312, 4),
}
US = ("AAPL", "TSLA", "NVDA", "MSFT", "GOOGL", "AMZN", "META")
BIST = ("THYAO.IS", "GARAN.IS", "ISCTR.IS", "AKBNK.IS", "SISE.IS")
Series = tuple[list[Row], dict[int, Row]]  # bars, and indicator rows by time
CONNECTED = {"feed": "connected", "since": None, "at": NOW}
NEVER = {"feed": "down", "since": None, "at": None}


def instrument(exchange: str, symbol: str) -> Row:
    """An instrument as the pages and the API speak of it."""
    crypto = exchange == "binance"
    calendar = {"binance": "24/7", "alpaca": "XNYS", "yahoo": "XIST"}[exchange]
    currency = "USDT" if crypto else "USD" if exchange == "alpaca" else "TRY"
    facts = {"exchange": exchange, "symbol": symbol, "title": symbol, "currency": currency, "calendar": calendar}
    return {
        **facts,
        "price_decimals": CRYPTO[symbol][1] if crypto else 2,
        "active": True,
        "asset_class": "crypto" if crypto else "stock",
    }


@functools.cache
def pristine(symbol: str, timeframe: str) -> Series:
    """A series as it is at the beginning: the same in each process and after each reset."""
    if symbol not in CRYPTO:
        return [], {}
    if timeframe == "1m":
        price, decimals = CRYPTO[symbol]
        rows = minutes(len(symbol) * 7 + ord(symbol[0]), price, decimals=decimals, holes=((210, 9),))
    else:
        rows = rolled_up(pristine(symbol, "1m")[0], timeframe)
    return rows, {row["time"]: row for row in indicators(rows)}


class Market:
    """The made-up market: its instruments, bars and listeners, and the faults it shall have."""

    def __init__(self) -> None:
        self.instruments = [
            *(instrument("binance", symbol) for symbol in CRYPTO),
            *(instrument("alpaca", symbol) for symbol in US),
            *(instrument("yahoo", symbol) for symbol in BIST),
        ]
        self.reset()

    def reset(self) -> None:
        """Everything as at the beginning."""
        self.lock = threading.RLock()
        self.changed: dict[tuple[str, str], Series] = {}
        self.sockets: list[tuple[str, str, queue.Queue[str | None]]] = []
        self.asked: list[str] = []  # addresses of chart requests, newest last
        self.status: Row = dict(CONNECTED)
        self.slow_s = 0.0  # how long each API answer waits
        self.failing: int | None = None  # the status that each API answer has instead
        self.refusing = False  # sockets are refused
        self.empty = False  # no instrument is on the watchlist

    def minutes(self, symbol: str) -> list[Row]:
        """The one-minute bars of a symbol; none for those no feed brings."""
        return self.series(symbol, "1m")[0]

    def series(self, symbol: str, timeframe: str) -> Series:
        """Bars and indicator rows by time of a timeframe; a copy of its own once something has moved."""
        with self.lock:
            return self.changed.get((symbol, timeframe)) or pristine(symbol, timeframe)

    def _own(self, symbol: str, timeframe: str) -> Series:
        if (symbol, timeframe) not in self.changed:
            rows, values = pristine(symbol, timeframe)
            self.changed[symbol, timeframe] = ([*rows[:-1], dict(rows[-1])], dict(values))
        return self.changed[symbol, timeframe]

    def chart(self, symbol: str, timeframe: str, *, limit: int = 1000, **cut: Any) -> Row:
        """The answer of /api/charts; `cut` may hold start, end and names."""
        rows, values = self.series(symbol, timeframe)
        start, end, names = cut.get("start"), cut.get("end"), cut.get("names")
        chosen = [row for row in rows if (start is None or row["time"] >= start) and (end is None or row["time"] < end)]
        chosen = chosen[-limit:]
        found = [values[row["time"]] for row in chosen if row["time"] in values]
        if names is not None:
            found = [{"time": row["time"], **{name: row[name] for name in names}} for row in found]
        return {"symbol": symbol, "exchange": "binance", "timeframe": timeframe, "bars": chosen, "indicators": found}

    def overview(self) -> Row:
        """The answer of /api/overview."""
        return {"instruments": [] if self.empty else [self._row(one) for one in self.instruments]}

    def _row(self, one: Row) -> Row:
        day = self.minutes(one["symbol"])[-1440:]
        if not day:
            nothing = {"price": None, "change_24h": None, "volume_24h": None, "sparkline": [], "time": None}
            return {**one, **nothing, "feed": "down"}
        first, last = day[0]["open"], day[-1]["close"]
        return {
            **one,
            "price": last,
            "change_24h": round((last / first - 1) * 100, 4),
            "volume_24h": round(sum(row["volume"] for row in day), 8),
            "sparkline": [row["close"] for row in day[::-30][::-1]],
            "time": day[-1]["time"] + 17_000,
            "feed": self.status["feed"],
        }

    def trade(self, symbol: str, price: float, size: float = 0.5) -> None:
        """A trade in the newest minute: every open chart of the symbol and the overview hear of it."""
        with self.lock:
            for timeframe in STEPS:
                last = self._own(symbol, timeframe)[0][-1]
                last.update(close=price, high=max(last["high"], price), low=min(last["low"], price))
                last.update(volume=round(last["volume"] + size, 8), trade_count=last["trade_count"] + 1)
                self._publish(symbol, timeframe)
            quote = {
                "exchange": "binance",
                "symbol": symbol,
                "price": price,
                "time": self.minutes(symbol)[-1]["time"] + 30_000,
            }
        self._tell("overview", "", {"type": "update", "data": [quote]})

    def complete(self, symbol: str) -> None:
        """The newest minute is over and the next one begins; its indicator values go out with it."""
        with self.lock:
            rows, values = self._own(symbol, "1m")
            rows[-1].update(state="closed", completed=True)
            values[rows[-1]["time"]] = indicators(rows[-500:])[-1]
            self._publish(symbol, "1m")
            close = rows[-1]["close"]
            rows.append(bar(rows[-1]["time"] + MINUTE, [close], volume=0.01))
            self._publish(symbol, "1m")

    def _publish(self, symbol: str, timeframe: str) -> None:
        rows, values = self.series(symbol, timeframe)
        facts = {"symbol": symbol, "exchange": "binance", "timeframe": timeframe}
        data = {**facts, "bar": rows[-1], "indicators": values.get(rows[-1]["time"])}
        self._tell(symbol, timeframe, {"type": "update", "data": data})

    def tell_status(self, status: Row) -> None:
        """The exchange's feed has another state."""
        self.status = status
        for symbol in CRYPTO:
            for timeframe in STEPS:
                self._tell(symbol, timeframe, {"type": "status", "data": status})
        self._tell("overview", "", {"type": "status", "data": {"binance": status, "alpaca": NEVER, "yahoo": NEVER}})

    def drop(self) -> None:
        """Cuts every socket."""
        for _, _, waiting in list(self.sockets):
            waiting.put(None)

    def _tell(self, symbol: str, timeframe: str, message: Row) -> None:
        text = json.dumps(message)
        for name, frame, waiting in list(self.sockets):
            if (name, frame) == (symbol, timeframe):
                waiting.put(text)


def create_app(market: Market, *, request_timeout_ms: int = 10_000) -> Flask:
    """The pages, the API and the sockets over a Market."""
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config["TEMPLATES_AUTO_RELOAD"] = True
    app.context_processor(lambda: {"request_timeout_ms": request_timeout_ms})
    _pages(app, market)
    _api(app, market)
    _sockets(app, market)
    return app


def _find(market: Market, symbol: str) -> Row:
    found = [one for one in market.instruments if one["symbol"].replace("/", "-") == symbol.replace("/", "-")]
    return found[0] if found else abort(404)


def _pages(app: Flask, market: Market) -> None:
    @app.get("/")
    def overview() -> str:
        return render_template("overview.html")

    @app.get("/charts/<exchange>/<path:symbol>")
    def chart(exchange: str, symbol: str) -> str:
        return render_template("chart.html", instrument=_find(market, symbol))

    @app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        return render_template("error.html", code=404, message=f"There is no page {request.path}."), 404


def _api(app: Flask, market: Market) -> None:
    @app.before_request
    def faults() -> tuple[Response, int] | None:
        if not request.path.startswith("/api/"):
            return None
        time.sleep(market.slow_s)
        if market.failing is None:
            return None
        body = {"error": {"code": "unavailable", "message": "The database cannot be reached."}}
        return Response(json.dumps(body), mimetype="application/json"), market.failing

    @app.get("/api/overview", endpoint="api-overview")
    def overview() -> Row:
        return market.overview()

    @app.get("/api/symbols")
    def symbols() -> Row:
        titles = {"binance": "Binance", "alpaca": "Alpaca", "yahoo": "Borsa Istanbul"}
        return {
            "exchanges": [
                {
                    "exchange": name,
                    "title": title,
                    "symbols": [one for one in market.instruments if one["exchange"] == name],
                }
                for name, title in titles.items()
            ]
        }

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
        ws.send(json.dumps({"type": "status", "data": market.status if key[0] in CRYPTO else NEVER}))
    try:
        while ws.connected and (text := waiting.get()) is not None:
            ws.send(text)
    finally:
        market.sockets.remove(listener)
        _end(ws)


def _end(ws: Any) -> None:
    """Close for good: werkzeug would still write an HTTP answer after the closing frame."""
    with contextlib.suppress(ConnectionClosed, OSError):
        ws.close()
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
