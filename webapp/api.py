"""The REST API: symbols, charts, overview, health; answers and errors are JSON."""

from __future__ import annotations

import time
from itertools import groupby
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Blueprint, Response, request
from redis import RedisError

from app.cache import health
from app.domain.instruments import RULES, Instrument
from webapp import backfills, quality, status
from webapp.composition import Web, market_facts, overview_json, quotes_json
from webapp.errors import AWAY
from webapp.schemas import ChartQuery, InstrumentQuery, ListQuery


def blueprint(web: Web) -> Blueprint:
    """The routes below /api."""
    api = Blueprint("api", __name__, url_prefix="/api")

    @api.get("/symbols")
    def symbols() -> Response:
        """All instruments, by exchange."""
        items = sorted(web.instruments(), key=lambda item: list(RULES).index(item.exchange))
        groups = groupby(items, key=lambda item: item.exchange)
        return _json(
            {
                "exchanges": [
                    {"exchange": name.value, "title": RULES[name].title, "symbols": [_symbol(item) for item in group]}
                    for name, group in groups
                ]
            }
        )

    @api.get("/instruments")
    def instruments() -> Response:
        """The watchlist with the hours of its markets and the state of its feeds."""
        found = web.instruments(active_only=ListQuery.read(request.args).active)
        return _json({"instruments": [_instrument(web, item) for item in found]})

    @api.get("/quotes")
    def quotes() -> Response:
        """Last price, best bid and ask, and halts of the instruments."""
        query = InstrumentQuery.read(request.args)
        if query.symbol is not None:
            found = [web.find(query.symbol, query.exchange.value if query.exchange else None)]
        else:
            found = [item for item in web.instruments() if query.exchange in (None, item.exchange)]
        return _json({"quotes": quotes_json(web, found)})

    @api.get("/charts/<path:symbol>")
    def charts(symbol: str) -> Response:
        """The bars and indicators of a series."""
        query = ChartQuery.read(request.args)
        instrument = web.find(symbol, query.exchange.value if query.exchange else None)
        return Response(web.charts.chart(instrument, query.request), mimetype="application/json")

    @api.get("/overview")
    def overview() -> Response:
        """The last price and the last 24 hours of all active instruments."""
        return _json(overview_json(web))

    @api.get("/health")
    def state() -> Response:
        """What works: 200 while charts can be read, 503 without the database."""
        facts = health_json(web)
        return _json(facts, status=503 if facts["status"] == "down" else 200)

    quality.install(api, web)
    backfills.install(api, web)
    status.install(api, web)

    @api.after_request
    def never_stored(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return api


def health_json(web: Web) -> dict[str, Any]:
    """The state of database, Redis, live updates, feeds and processes; ok, degraded or down in one word."""
    database, redis = _database(web), _redis(web)
    live = {"clients": web.hub.clients, "subscribed": web.hub.subscribed.is_set()}
    status = "down" if not database["ok"] else "ok" if redis["ok"] else "degraded"
    facts: dict[str, Any] = {"status": status, "database": database, "redis": redis, "live": live}
    facts["feeds"] = web.watch.states()
    try:
        facts["processes"], facts["counters"] = health.read(web.redis), health.counters(web.redis)
    except RedisError:
        facts["processes"], facts["counters"] = {}, {}
    if status == "down":
        facts["error"] = {"code": "unavailable", "message": "the database cannot be reached; try again in a moment"}
    return facts


def _database(web: Web) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        with web.engine.connect() as conn:
            conn.execute(sa.text("SELECT 1"))
    except (*AWAY, sa.exc.DBAPIError) as error:
        return {"ok": False, "cause": type(error).__name__}
    return {"ok": True, "ms": _ms(began)}


def _redis(web: Web) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        web.redis.ping()
    except (RedisError, OSError) as error:
        return {"ok": False, "cause": type(error).__name__, "effect": "charts come from the database; no live updates"}
    return {"ok": True, "ms": _ms(began)}


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _symbol(item: Instrument) -> dict[str, Any]:
    return {
        "symbol": item.symbol,
        "active": item.active,
        "price_decimals": item.price_decimals,
        "currency": item.currency,
        "asset_class": item.asset_class,
        "calendar": item.calendar,
    }


def _instrument(web: Web, item: Instrument) -> dict[str, Any]:
    title = RULES[item.exchange].title
    return {"exchange": item.exchange.value, "title": title, **_symbol(item), **market_facts(web.watch, item)}


def _json(body: Any, *, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status=status, mimetype="application/json")
