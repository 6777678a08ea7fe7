"""Binance's REST door: `/api/v3/…` with its limits, weights and error bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import Any

import orjson
from aiohttp import web

from app.domain.trades import Trade
from app.sandbox.binance.limits import WEIGHTS, WeightLimit
from app.sandbox.binance.params import Params, Refused
from app.sandbox.binance.pump import wire_kline
from app.sandbox.market import Market
from app.sandbox.series import Series
from app.sandbox.tape import Columns, Row, Spec
from app.wire.binance import text_e8
from app.wire.binance_history import build_agg_row, build_kline_row, build_trade_row

type Answer = Callable[[web.Request], Awaitable[Any]]


class RestDoor:
    """Answers from the market as it stands at the exchange's clock."""

    def __init__(self, market: Market, limit: WeightLimit, *, skew_ms: Callable[[], int]) -> None:
        """`skew_ms` says how far the clock it shows is off."""
        self._market, self._limit, self._skew_ms = market, limit, skew_ms

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        answers: dict[str, Answer] = {
            "ping": self._ping,
            "time": self._time,
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "trades": self._trades,
            "historicalTrades": self._historical_trades,
            "aggTrades": self._agg_trades,
        }
        return [web.get(f"/api/v3/{name}", self._guarded(answer)) for name, answer in answers.items()]

    def _guarded(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            verdict = self._limit.spend(request.remote or "", WEIGHTS[request.path])
            headers = {"X-MBX-USED-WEIGHT": str(verdict.used), "X-MBX-USED-WEIGHT-1M": str(verdict.used)}
            if verdict.status != 200:
                headers["Retry-After"] = str(verdict.retry_after_s)
                return _json(_too_much(self._limit.limit, verdict.banned_until_ms), verdict.status, headers)
            try:
                return _json(await answer(request), 200, headers)
            except Refused as refusal:
                return _json({"code": refusal.code, "msg": refusal.message}, refusal.status, headers)

        return handle

    async def _ping(self, request: web.Request) -> dict[str, Any]:
        Params(request.query, known=())
        return {}

    async def _time(self, request: web.Request) -> dict[str, Any]:
        Params(request.query, known=())
        return {"serverTime": self._market.now_us() // 1000 + self._skew_ms()}

    async def _exchange_info(self, request: web.Request) -> dict[str, Any]:
        series, query = self._market.series, request.query
        Params(query, known=("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"))
        if "symbol" in query:
            wanted = [query["symbol"]]
        elif "symbols" in query:
            wanted = _symbol_list(query["symbols"])
        else:
            wanted = list(series)
        if any(wire not in series for wire in wanted):
            raise Refused(-1121, "Invalid symbol.")
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self._limit.limit}
        return {
            "timezone": "UTC",
            "serverTime": self._market.now_us() // 1000,
            "rateLimits": [weight],
            "exchangeFilters": [],
            "symbols": [_symbol_info(series[wire].spec) for wire in wanted],
        }

    async def _klines(self, request: web.Request) -> list[list[Any]]:
        params = Params(request.query, known=("symbol", "interval", "startTime", "endTime", "timeZone", "limit"))
        wire = params.symbol(self._market.series)
        interval, length = params.interval_ms()
        limit, now_us = params.limit(), self._market.now_us()
        start, end = params.integer("startTime"), params.integer("endTime")
        last = now_us // 1000 if end is None else min(end, now_us // 1000)
        if start is None:
            start = max(0, (last // length - limit + 1) * length)
        bars = await self._market.bars(wire, length, start_ms=start, end_ms=last + 1, now_us=now_us, limit=limit)
        return [build_kline_row(wire_kline(bar, wire, interval, length)) for bar in bars]

    async def _trades(self, request: web.Request) -> list[dict[str, Any]]:
        params = Params(request.query, known=("symbol", "limit"))
        series = self._series(params)
        return _trade_rows(series.latest(params.limit(), self._market.now_us()))

    async def _historical_trades(self, request: web.Request) -> list[dict[str, Any]]:
        params = Params(request.query, known=("symbol", "limit", "fromId"))
        series, now_us, first = self._series(params), self._market.now_us(), params.integer("fromId")
        if first is None:
            return _trade_rows(series.latest(params.limit(), now_us))
        return _trade_rows(series.since_id(first, params.limit(), now_us))

    async def _agg_trades(self, request: web.Request) -> list[dict[str, Any]]:
        params = Params(request.query, known=("symbol", "limit", "fromId", "startTime", "endTime"))
        series, limit, now_us = self._series(params), params.limit(), self._market.now_us()
        first, start, end = (params.integer(name) for name in ("fromId", "startTime", "endTime"))
        if first is not None and (start is not None or end is not None):
            raise Refused(-1128, "Combination of optional parameters invalid.")
        before = now_us if end is None else min(now_us, (end + 1) * 1000)
        if first is not None:
            return _agg_rows(series.since_agg(first, limit, now_us))[:limit]
        if start is not None:
            return _agg_rows(series.since_time(start * 1000, limit, before))[:limit]
        return _agg_rows(series.latest_aggs(limit, before))[-limit:]

    def _series(self, params: Params) -> Series:
        return self._market.series[params.symbol(self._market.series)]


def _json(body: Any, status: int, headers: dict[str, str]) -> web.Response:
    content = "application/json"
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type=content, charset="utf-8")


def _too_much(limit: int, banned_until_ms: int) -> dict[str, Any]:
    advice = "Please use WebSocket Streams for live updates to avoid"
    if banned_until_ms:
        message = f"Way too much request weight used; IP banned until {banned_until_ms}. {advice} bans."
    else:
        message = f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        message += f"{advice} polling the API."
    return {"code": -1003, "msg": message}


def _symbol_list(text: str) -> list[str]:
    try:
        symbols = orjson.loads(text)
    except orjson.JSONDecodeError:
        symbols = None
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise Refused(-1100, "Illegal characters found in parameter 'symbols'.")
    return symbols


def _symbol_info(spec: Spec) -> dict[str, Any]:
    tick, step = text_e8(10 ** (8 - spec.price_decimals)), text_e8(10 ** (8 - spec.size_decimals))
    return {
        "symbol": spec.wire,
        "status": "TRADING",
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _trade_rows(columns: Columns) -> list[dict[str, Any]]:
    return [build_trade_row(_trade(row, row.id, row.size)) for row in columns.rows()]


def _agg_rows(columns: Columns) -> list[dict[str, Any]]:
    """The aggregate trades of whole groups of raw ones."""
    rows = []
    for agg, group in groupby(columns.rows(), lambda row: row.agg):
        members = list(group)
        rows.append(build_agg_row(agg, _trade(members[0], members[-1].id, sum(row.size for row in members))))
    return rows


def _trade(row: Row, last: int, size: int) -> Trade:
    return Trade(0, row.time_us, row.id, last, row.price, size, not row.maker)
