"""The stub's market: made-up bars that move when told to, its listeners, and the faults it shall have."""

from __future__ import annotations

import functools
import json
import queue
import threading
from typing import Any

from app.domain.zones import zone_of
from tests.browser.generated import MINUTE, STEPS, Row, bar, indicators, minutes, rolled_up, traded
from tests.browser.states import CALENDARS, TITLES, States
from tests.browser.status_stub import Platform

CRYPTO = {
    "BTC/USDT": (64_210.0, 2),
    "ETH/USDT": (3_184.2, 2),
    "SOL/USDT": (171.3, 2),
    "BNB/USDT": (602.4, 2),
    "ADA/USDT": (0.4312, 4),
}
US = ("AAPL", "TSLA", "NVDA", "MSFT", "GOOGL", "AMZN", "META")
BIST = ("THYAO.IS", "GARAN.IS", "ISCTR.IS", "AKBNK.IS", "SISE.IS")
DELAYED = {"THYAO.IS": 276.25}  # the one of them that has bars
Series = tuple[list[Row], dict[int, Row]]  # bars, and indicator rows by time


def instrument(exchange: str, symbol: str) -> Row:
    """An instrument as the pages and the API speak of it."""
    crypto = exchange == "binance"
    currency = "USDT" if crypto else "USD" if exchange == "alpaca" else "TRY"
    return {
        "exchange": exchange,
        "symbol": symbol,
        "title": TITLES[exchange],
        "currency": currency,
        "calendar": CALENDARS[exchange],
        "time_zone": zone_of(CALENDARS[exchange]),
        "price_decimals": CRYPTO[symbol][1] if crypto else 2,
        "active": True,
        "asset_class": "crypto" if crypto else "stock",
    }


@functools.cache
def pristine(symbol: str, timeframe: str) -> Series:
    """A series as it is at the beginning: the same in each process and after each reset."""
    if symbol not in CRYPTO and symbol not in DELAYED:
        return [], {}
    if timeframe == "1m" and symbol in DELAYED:
        rows = traded(minutes(5, DELAYED[symbol], decimals=2))
    elif timeframe == "1m":
        price, decimals = CRYPTO[symbol]
        rows = minutes(len(symbol) * 7 + ord(symbol[0]), price, decimals=decimals, holes=((210, 9),))
    else:
        rows = rolled_up(pristine(symbol, "1m")[0], timeframe)
    return rows, {row["time"]: row for row in indicators(rows)}


class Market:
    """The made-up market: its instruments, bars and listeners, and the faults it shall have."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Everything as at the beginning."""
        self.instruments = [
            *(instrument("binance", symbol) for symbol in CRYPTO),
            *(instrument("alpaca", symbol) for symbol in US),
            *(instrument("yahoo", symbol) for symbol in BIST),
        ]
        self.lock = threading.RLock()
        self.changed: dict[tuple[str, str], Series] = {}
        self.sockets: list[tuple[str, str, queue.Queue[str | None]]] = []
        self.asked: list[str] = []  # addresses of chart requests, newest last
        self.token: str | None = None  # what reading needs
        self.refused: list[str] = []  # the header Authorization of requests that were not let in
        self.mended: set[int] = set()  # error pages (/errors/<code>) whose cause is over
        self.states = States()
        self.platform = Platform(self.states)
        self.holes: dict[str, list[Row]] = {}  # open ones, by symbol
        self.quotes: dict[str, Row] = {}  # book and halt, by symbol
        self.slow_s = 0.0  # how long each API answer waits
        self.failing: int | None = None  # the status that each API answer has instead
        self.retry_after: str | None = None  # the header of that
        self.refusing = False  # sockets are refused
        self.refusal: Row | None = None  # they are refused as the web process does it: with an error, then closed
        self.came: list[float] = []  # when each socket came, refused or not
        self.figures: dict[str, Row] = {}  # what the screener takes in place of a symbol's own
        self.listed: list[Row] = []  # more instruments than the usual, as rows of the overview
        self.empty = False  # no instrument is on the watchlist

    def list_many(self, count: int) -> None:
        """So many more instruments of Binance, with prices and no charts."""
        like = self._row(self.instruments[0])
        for number in range(count):
            price = 10.0 + number
            one = {**like, "symbol": f"C{number:03d}/USDT", "price": price, "change_24h": number / 50}
            self.listed.append({**one, "sparkline": [price - 1, price + 1, price - 0.5, price]})

    def tell_prices(self, quotes: list[Row]) -> None:
        """These last prices at once, as a busy moment brings them."""
        self._tell("overview", "", {"type": "update", "data": quotes})

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
        exchange = self.exchange(symbol)
        head = {"symbol": symbol, "exchange": exchange, "timeframe": timeframe, **self.states.facts(exchange)}
        lo, hi = chosen[0]["time"] if chosen else start or 0, end or 2**53
        holes = [hole for hole in self.holes.get(symbol, []) if hole["end"] > lo and hole["start"] < hi]
        return {**head, "holes": holes, "bars": chosen, "indicators": found}

    def exchange(self, symbol: str) -> str:
        """Where a symbol is traded."""
        return next(str(one["exchange"]) for one in self.instruments if one["symbol"] == symbol)

    def overview(self) -> Row:
        """The answer of /api/overview."""
        rows = [] if self.empty else [*(self._row(one) for one in self.instruments), *self.listed]
        return {"instruments": rows, "feeds": self.states.all()}

    def _row(self, one: Row) -> Row:
        one = {**one, **self.states.facts(one["exchange"]), "book": None, "halt": None, **self.quote(one["symbol"])}
        day = self.minutes(one["symbol"])[-1440:]
        if not day:
            nothing = {"price": None, "change_24h": None, "volume_24h": None, "sparkline": [], "time": None}
            return {**one, **nothing}
        first, last = day[0]["open"], day[-1]["close"]
        return {
            **one,
            "price": last,
            "change_24h": round((last / first - 1) * 100, 4),
            "volume_24h": round(sum(row["volume"] for row in day), 8),
            "sparkline": [row["close"] for row in day[::-30][::-1]],
            "time": day[-1]["time"] + 17_000,
        }

    def last(self, one: Row) -> Row:
        """A row of /api/quotes."""
        rows = self.minutes(one["symbol"])
        price, time = (rows[-1]["close"], rows[-1]["time"] + 17_000) if rows else (None, None)
        named = {name: one[name] for name in ("exchange", "symbol", "currency")}
        return {**named, "price": price, "time": time, **self.quote(one["symbol"])}

    def quote(self, symbol: str) -> Row:
        """Best bid and ask of a symbol, and whether it is halted."""
        return self.quotes.get(symbol, {"book": None, "halt": None})

    def trade(self, symbol: str, price: float, size: float = 0.5) -> None:
        """A trade in the newest minute: every open chart of the symbol and the overview hear of it."""
        with self.lock:
            for timeframe in STEPS:
                last = self._own(symbol, timeframe)[0][-1]
                last.update(close=price, high=max(last["high"], price), low=min(last["low"], price))
                last.update(volume=round(last["volume"] + size, 8), trade_count=last["trade_count"] + 1)
                self._publish(symbol, timeframe)
            quote = {
                "exchange": self.exchange(symbol),
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
        facts = {"symbol": symbol, "exchange": self.exchange(symbol), "timeframe": timeframe}
        data = {**facts, "bar": rows[-1], "indicators": values.get(rows[-1]["time"])}
        self._tell(symbol, timeframe, {"type": "update", "data": data})

    def tell_status(self, exchange: str, feed: Row | None = None, *, hours: Row | None = None) -> None:
        """The exchange's feed, or the hours of its market, are others now."""
        self.states.feeds[exchange] = feed or self.states.feeds[exchange]
        self.states.hours[CALENDARS[exchange]] = hours or self.states.hours[CALENDARS[exchange]]
        for one in self.instruments:
            if one["exchange"] == exchange:
                self._tell_all(one["symbol"], {"type": "status", "data": self.states.status(exchange)})
        self._tell("overview", "", {"type": "status", "data": self.states.all()})

    def tell_quote(self, symbol: str, *, book: Row | None = None, halt: Row | None = None) -> None:
        """Best bid and ask, or a halt, are others now."""
        self.quotes[symbol] = {"book": book, "halt": halt}
        self._tell_all(symbol, {"type": "quote", "data": self.quotes[symbol]})
        name = {"exchange": self.exchange(symbol), "symbol": symbol}
        self._tell("overview", "", {"type": "quotes", "data": [{**name, **self.quotes[symbol]}]})

    def tell_holes(self, symbol: str, holes: list[Row]) -> None:
        """These are the open holes now."""
        self.holes[symbol] = holes
        self._tell_all(symbol, {"type": "holes", "data": holes})

    def lose(self, symbol: str, first: int, count: int) -> tuple[int, int]:
        """Takes `count` minutes out, from the one `first` before the newest on; returns from and to when (ms)."""
        with self.lock:
            rows, _ = self._own(symbol, "1m")
            lost = rows[-1 - first : -1 - first + count]
            rows[:] = [row for row in rows if row not in lost]
        return lost[0]["time"], lost[-1]["time"] + MINUTE

    def restore(self, symbol: str) -> None:
        """Brings every lost minute back, as a repair does."""
        with self.lock:
            del self.changed[symbol, "1m"]

    def _tell_all(self, symbol: str, message: Row) -> None:
        for timeframe in STEPS:
            self._tell(symbol, timeframe, message)

    def drop(self) -> None:
        """Cuts every socket."""
        for _, _, waiting in list(self.sockets):
            waiting.put(None)

    def _tell(self, symbol: str, timeframe: str, message: Row) -> None:
        text = json.dumps(message)
        for name, frame, waiting in list(self.sockets):
            if (name, frame) == (symbol, timeframe):
                waiting.put(text)
