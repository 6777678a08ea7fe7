"""A back end for the pages that needs no database: the real templates and files, made-up bars, faults on demand.

`python -m tests.browser.stub [port]` serves it by hand, with prices that move; the browser tests start it in-process
and call `trade`, `complete`, `drop` and the fault attributes themselves.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import sys
import threading
import time
from typing import Any

from flask import Flask, Response, abort, render_template, request
from flask_sock import Sock
from werkzeug.serving import BaseWSGIServer, make_server

from app.config import ROOT
from tests.browser.generated import MINUTE, NOW, STEPS, Row, indicators, minutes, rolled_up

CRYPTO = {"BTC/USDT": (64_210.0, 2), "ETH/USDT": (3_184.2, 2), "SOL/USDT": (171.3, 2), "BNB/USDT": (602.4, 2), "ADA/USDT": (0.4312, 4)}
US = ("AAPL", "TSLA", "NVDA", "MSFT", "GOOGL", "AMZN", "META")
BIST = ("THYAO.IS", "GARAN.IS", "ISCTR.IS", "AKBNK.IS", "SISE.IS")
CONNECTED = {"feed": "connected", "since": None, "at": NOW}
NEVER = {"feed": "down", "since": None, "at": None}


def instrument(exchange: str, symbol: str) -> Row:
    """An instrument as the pages and the API speak of it."""
    crypto = exchange == "binance"
    calendar = {"binance": "24/7", "alpaca": "XNYS", "yahoo": "XIST"}[exchange]
    currency = "USDT" if crypto else "USD" if exchange == "alpaca" else "TRY"
    facts = {"exchange": exchange, "symbol": symbol, "title": symbol, "currency": currency, "calendar": calendar}
    return {**facts, "price_decimals": CRYPTO[symbol][1] if crypto else 2, "active": True, "asset_class": "crypto" if crypto else "stock"}


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
        self.bars: dict[str, list[Row]] = {}
        self.cache: dict[tuple[str, str], tuple[list[Row], dict[int, Row]]] = {}
        self.sockets: list[tuple[str, str, queue.Queue[str | None]]] = []
        self.asked: list[str] = []  # addresses of chart requests, newest last
        self.status: Row = dict(CONNECTED)
        self.slow_s = 0.0  # how long each API answer waits
        self.failing: int | None = None  # the status that each API answer has instead
        self.refusing = False  # sockets are refused
        self.empty = False  # no instrument is on the watchlist
        self.hole = ((210, 9),)

    def minutes(self, symbol: str) -> list[Row]:
        """The one-minute bars of a symbol; none for those no feed brings."""
        with self.lock:
            if symbol in CRYPTO and symbol not in self.bars:
                price, decimals = CRYPTO[symbol]
                self.bars[symbol] = minutes(len(symbol) * 7 + ord(symbol[0]), price, decimals=decimals, holes=self.hole)
            return self.bars.setdefault(symbol, [])

    def series(self, symbol: str, timeframe: str) -> tuple[list[Row], dict[int, Row]]:
        """Bars and indicator rows by time of a timeframe."""
        with self.lock:
            if (symbol, timeframe) not in self.cache:
                rows = rolled_up(self.minutes(symbol), timeframe) if self.minutes(symbol) else []
                self.cache[symbol, timeframe] = (rows, {row["time"]: row for row in indicators(rows)})
            return self.cache[symbol, timeframe]

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
            last = self.minutes(symbol)[-1]
            last.update(close=price, high=max(last["high"], price), low=min(last["low"], price))
            last.update(volume=round(last["volume"] + size, 8), trade_count=last["trade_count"] + 1)
            self._changed(symbol)
        quote = {"exchange": "binance", "symbol": symbol, "price": price, "time": last["time"] + 30_000}
        self._tell("overview", "", {"type": "update", "data": [quote]})

    def complete(self, symbol: str) -> None:
        """The newest minute is over and the next one begins; its indicator values go out with it."""
        with self.lock:
            last = self.minutes(symbol)[-1]
            last.update(state="closed", completed=True)
            self._changed(symbol)
            close = last["close"]
            opened = {**last, "time": last["time"] + MINUTE, "open": close, "high": close, "low": close}
            opened.update(volume=0.01, trade_count=1, state="open", completed=False)
            self.minutes(symbol).append(opened)
            self._changed(symbol)

    def _changed(self, symbol: str) -> None:
        for timeframe in {timeframe for name, timeframe, _ in self.sockets if name == symbol} | {"1m"}:
            self.cache.pop((symbol, timeframe), None)
            rows, values = self.series(symbol, timeframe)
            bar = rows[-1]
            data = {"symbol": symbol, "exchange": "binance", "timeframe": timeframe, "bar": bar, "indicators": values.get(bar["time"])}
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
                {"exchange": name, "title": title, "symbols": [one for one in market.instruments if one["exchange"] == name]}
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
            ws.close()
            return
        if symbol == "overview":
            _serve(ws, market, key=("overview", ""), first=market.overview())
            return
        name, timeframe = _find(market, symbol)["symbol"], request.args["timeframe"]
        since = request.args.get("since")
        _serve(ws, market, key=(name, timeframe), first=market.chart(name, timeframe, start=int(since) if since else None))


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
        ws.close()


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
