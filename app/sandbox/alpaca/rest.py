"""Alpaca's REST door: bars and trades of stocks with their paging, and the list of assets."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.alpaca.keys import KEY_HEADER, SECRET_HEADER, RequestLimit, may_hear, welcome
from app.sandbox.alpaca.messages import print_row
from app.sandbox.alpaca.pages import Page, bars_page, trades_page
from app.sandbox.alpaca.params import Query, Refused, read_query, read_timeframe
from app.sandbox.market import Market
from app.sandbox.stocks.listing import Listing
from app.wire import alpaca as wire
from app.wire.alpaca_values import Asset

type Answer = Callable[[web.Request], Awaitable[Any]]

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 40110000, 40310000, 40410000, 42910000


class RestDoor:
    """Answers from the market as it stands at the exchange's clock."""

    def __init__(self, market: Market, limit: RequestLimit) -> None:
        self._market, self._limit = market, limit

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        answers: dict[str, Answer] = {
            "/v2/stocks/bars": self._bars,
            "/v2/stocks/trades": self._trades,
            "/v2/stocks/trades/latest": self._latest,
            "/v2/stocks/{symbol}/bars": self._bars,
            "/v2/stocks/{symbol}/trades": self._trades,
            "/v2/stocks/{symbol}/trades/latest": self._latest,
            "/v2/assets": self._assets,
            "/v2/assets/{symbol}": self._asset,
        }
        return [web.get(path, self._guarded(answer)) for path, answer in answers.items()]

    def _guarded(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            headers: dict[str, str] = {}
            try:
                key = _key(request)
                allowance = self._limit.spend(key)
                headers = allowance.headers()
                if not allowance.granted:
                    raise Refused(429, "too many requests.", code=TOO_MANY)
                return _json(await answer(request), 200, headers)
            except Refused as refusal:
                return _json({"code": refusal.code, "message": refusal.message}, refusal.status, headers)

        return handle

    async def _bars(self, request: web.Request) -> dict[str, Any]:
        query, now_us = self._query(request)
        length_ms = read_timeframe(request.query)
        return _paged(request, "bars", await bars_page(self._market, query, length_ms, now_us=now_us))

    async def _trades(self, request: web.Request) -> dict[str, Any]:
        query, now_us = self._query(request)
        return _paged(request, "trades", await trades_page(self._market, query, now_us=now_us))

    async def _latest(self, request: web.Request) -> dict[str, Any]:
        query, now_us = self._query(request)
        rows = {}
        for symbol in query.symbols:
            listing = self._listings().get(symbol)
            row = self._market.stocks.series[symbol].latest(now_us) if listing else None
            if listing is not None and row is not None:
                rows[symbol] = print_row(listing, row, feed=query.feed)
        only = request.match_info.get("symbol")
        return {"symbol": only, "trade": rows.get(only)} if only else {"trades": rows}

    async def _assets(self, request: web.Request) -> list[dict[str, Any]]:
        status, kind = request.query.get("status", "active"), request.query.get("asset_class", "us_equity")
        if status != "active" or kind != "us_equity":
            return []
        return [_asset(listing) for listing in self._listings().values()]

    async def _asset(self, request: web.Request) -> dict[str, Any]:
        symbol = request.match_info["symbol"]
        listing = self._listings().get(symbol)
        if listing is None:
            raise Refused(404, f"asset not found for {symbol}", code=NOT_FOUND)
        return _asset(listing)

    def _listings(self) -> dict[str, Listing]:
        found = {symbol: series.listing for symbol, series in self._market.stocks.series.items()}
        return {symbol: listing for symbol, listing in found.items() if listing.calendar == "XNYS"}

    def _query(self, request: web.Request) -> tuple[Query, int]:
        symbols = request.match_info.get("symbol") or request.query.get("symbols", "")
        now_us = self._market.now_us()
        query = read_query(request.query, symbols, now_us=now_us)
        if query.feed and not may_hear(_key(request), query.feed):
            raise Refused(403, "subscription does not permit querying recent SIP data", code=FORBIDDEN)
        return query, now_us


def _key(request: web.Request) -> str:
    key, secret = (request.headers.get(name, "") for name in (KEY_HEADER, SECRET_HEADER))
    if not key or not secret:
        raise Refused(401, "unauthorized.", code=UNAUTHORIZED)
    if not welcome(key, secret):
        raise Refused(403, "forbidden.", code=FORBIDDEN)
    return key


def _paged(request: web.Request, name: str, page: Page) -> dict[str, Any]:
    symbol = request.match_info.get("symbol")
    if symbol is None:
        return {name: page.rows, "next_page_token": page.next_token}
    return {name: page.rows.get(symbol, []), "symbol": symbol, "next_page_token": page.next_token}


def _asset(listing: Listing) -> dict[str, Any]:
    traded = dict.fromkeys(("marginable", "shortable", "easy_to_borrow", "fractionable"), True)
    number = str(uuid.uuid5(uuid.NAMESPACE_DNS, listing.symbol))
    return {
        "id": number,
        **wire.build_asset(Asset(listing.symbol, listing.name, listing.venue, "active", True)),
        **traded,
        "maintenance_margin_requirement": 30,
        "attributes": [],
    }


def _json(body: Any, status: int, headers: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
