"""What the market's own door says of stocks: their truth, their prints, and amendments by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from app.domain.trades import e8
from app.errors import BadInput
from app.sandbox.answers import guarded, read_body, read_integer
from app.sandbox.stocks.amendments import Amendment
from app.sandbox.stocks.conditions import known, pack, unpack
from app.sandbox.stocks.market import StockMarket
from app.sandbox.stocks.prints import PRICE_UNIT, Print
from app.sandbox.truth import exact_json

MAX_LISTED = 20_000
MARKS = ("valid", "canceled", "incorrect", "corrected")
VENUE = ord("V")
_E8_PRICE, _E8 = 10**8 // PRICE_UNIT, 10**8

DAY_MS = 86_400_000


class StockControl:
    """`/sandbox/…` of stocks."""

    def __init__(self, stocks: StockMarket, *, now_us: Callable[[], int], told: Callable[[int], None]) -> None:
        """`told` is called with the time of what was done by hand."""
        self._stocks, self._now_us, self._told = stocks, now_us, told

    def routes(self) -> list[web.RouteDef]:
        """The paths only stocks have."""
        return [
            web.get("/sandbox/trades", guarded(self._trades)),
            web.post("/sandbox/cancel", guarded(self._cancel)),
            web.post("/sandbox/correct", guarded(self._correct)),
        ]

    def health(self) -> dict[str, str]:
        """The calendar of each stock."""
        return {symbol: series.listing.calendar for symbol, series in self._stocks.series.items()}

    async def truth(self, query: Mapping[str, str], timeframe: str, length_ms: int) -> dict[str, Any]:
        """The closed true bars of a stock; `extended=1` adds the minutes outside the session."""
        symbol, now_us = self.symbol(query), self._now_us()
        start_ms, end_ms = read_integer(query, "start", 0), read_integer(query, "end", now_us // 1000)
        if length_ms == DAY_MS:
            await self._stocks.warm_days(symbol, start_ms=start_ms, end_ms=end_ms, now_us=now_us)
        extended = query.get("extended") == "1"
        span = {"start_ms": start_ms, "end_ms": end_ms, "now_us": now_us}
        bars = self._stocks.closed(symbol, length_ms, **span, extended=extended)
        return {"symbol": symbol, "timeframe": timeframe, "bars": [exact_json(bar) for bar in bars]}

    def trade(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Report a print, now or as a late one of `time_us`."""
        symbol, now_us = self.symbol(body), self._now_us()
        price, size = _amounts(body)
        time_us, conditions = body.get("time_us", now_us), body.get("conditions", ["@"])
        if not isinstance(time_us, int) or time_us > now_us:
            raise BadInput("time_us must be exchange time in microseconds, not in the future")
        if not isinstance(conditions, list) or not known(tuple(conditions)):
            raise BadInput(f"conditions: {conditions!r} is no list of sale conditions")
        row = Print(time_us, 0, price, size, pack(*conditions), VENUE)
        return self._done(symbol, self._stocks.trade(symbol, row, now_us=now_us))

    async def _trades(self, request: web.Request) -> dict[str, Any]:
        symbol, now_us = self.symbol(request.query), self._now_us()
        start_ms, end_ms = (read_integer(request.query, name, now_us // 1000) for name in ("start", "end"))
        prints = self._stocks.prints(symbol, start_ms * 1000, end_ms * 1000, now_us=now_us)
        if len(prints) > MAX_LISTED:
            raise BadInput(f"{len(prints)} prints lie there; ask for at most {MAX_LISTED}")
        tape = self._stocks.series[symbol].listing.tape
        return {"symbol": symbol, "trades": [{**_told(row), "tape": tape} for row in prints.rows()]}

    async def _cancel(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        symbol = self.symbol(body)
        return self._done(symbol, self._stocks.cancel(symbol, _number(body), now_us=self._now_us()))

    async def _correct(self, request: web.Request) -> dict[str, Any]:
        body = await read_body(request)
        symbol, (price, size) = self.symbol(body), _amounts(body)
        now_us = self._now_us()
        return self._done(symbol, self._stocks.correct(symbol, _number(body), price=price, size=size, now_us=now_us))

    def _done(self, symbol: str, item: Amendment) -> dict[str, Any]:
        self._told(item.at_us)
        row = item.after or item.before
        assert row is not None
        return {"symbol": symbol, "kind": item.kind.value, "at_us": item.at_us, **_told(row)}

    def symbol(self, values: Mapping[str, Any]) -> str:
        """The stock a request names; raises BadInput where it is not listed."""
        symbol = str(values.get("symbol", "")).strip().upper()
        if symbol not in self._stocks.series:
            raise BadInput(f"symbol: {values.get('symbol')!r} is not listed here")
        return symbol


def _amounts(body: Mapping[str, Any]) -> tuple[int, int]:
    """Price in 1e-4 and size in shares; raises BadInput."""
    try:
        price, price_rest = divmod(e8(str(body["price"])), _E8_PRICE)
        size, size_rest = divmod(e8(str(body["quantity"])), _E8)
    except (KeyError, ValueError) as error:
        raise BadInput(f"a print needs symbol, price and quantity: {error}") from error
    if price_rest or size_rest or price <= 0 or size <= 0:
        raise BadInput("a price has at most four decimals, a quantity is a number of whole shares")
    return price, size


def _number(body: Mapping[str, Any]) -> int:
    number = body.get("id")
    if not isinstance(number, int):
        raise BadInput(f"id: {number!r} is not the number of a print")
    return number


def _told(row: Print) -> dict[str, Any]:
    return {
        "id": row.id,
        "time_us": row.time_us,
        "price": f"{row.price // PRICE_UNIT}.{row.price % PRICE_UNIT:04d}".rstrip("0").rstrip("."),
        "quantity": str(row.size),
        "conditions": list(unpack(row.conditions)),
        "exchange": chr(row.venue),
        "mark": MARKS[row.mark],
    }
