"""The REST API of the watchlist: what is collected, and changes of it while everything runs."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, request

from app.domain.instruments import RULES, Instrument
from app.errors import UnknownInstrument
from webapp.answers import InstrumentAnswer, InstrumentsAnswer
from webapp.bodies import InstrumentChange, NewInstrument
from webapp.composition import Web, market_facts
from webapp.openapi import JSON, describe
from webapp.schemas import ListQuery

ONE = "/instruments/<exchange>/<path:symbol>"


def install(api: Blueprint, web: Web) -> None:
    """Add the routes below /api."""

    @api.get("/instruments")
    @describe(query=ListQuery, answers={200: InstrumentsAnswer}, errors=(400,))
    def instruments() -> Response:
        """The watchlist with the hours of its markets and the state of its feeds."""
        found = web.instruments(active_only=ListQuery.read(request.args).active)
        return _json({"instruments": [instrument_json(web, item) for item in found]})

    @api.post("/instruments")
    @describe(body=NewInstrument, answers={200: InstrumentAnswer, 201: InstrumentAnswer}, errors=(404,))
    def add() -> Response:
        """Collects a symbol from now on: 201, or 200 where it is collected already.

        Its exchange is asked first. What it does not list is 404, what it does not trade is 400, both with its own
        word; where it cannot be asked, the answer is 503 and nothing is changed.
        """
        wanted = NewInstrument.read(request)
        known = _known(web, wanted)
        if known is not None and known.active:
            return _json(instrument_json(web, known))
        item = web.watchlist.add(wanted.exchange, wanted.symbol).instrument
        response = _json(instrument_json(web, item), status=201)
        response.headers["Location"] = f"/api/instruments/{item.exchange.value}/{item.symbol.replace('/', '-')}"
        return response

    @api.get(ONE)
    @describe(answers={200: InstrumentAnswer}, errors=(404,))
    def instrument(exchange: str, symbol: str) -> Response:
        """One instrument, with the hours of its market and the state of its feed."""
        return _json(instrument_json(web, web.find(symbol, exchange)))

    @api.patch(ONE)
    @describe(body=InstrumentChange, answers={200: InstrumentAnswer}, errors=(404,))
    def change(exchange: str, symbol: str) -> Response:
        """Collects an instrument, or no more; sets how many decimals its prices are shown with.

        To collect it again its exchange is asked, as when it was added.
        """
        wanted = InstrumentChange.read(request)
        item = web.find(symbol, exchange)
        if "active" in wanted.model_fields_set and wanted.active is not item.active:
            if wanted.active:
                item = web.watchlist.add(item.exchange, item.symbol).instrument
            else:
                item = web.watchlist.deactivate(item.symbol, item.exchange.value)
        if "price_decimals" in wanted.model_fields_set:
            item = web.watchlist.show_decimals(item, wanted.price_decimals)
        return _json(instrument_json(web, item))

    @api.delete(ONE)
    @describe(answers={200: InstrumentAnswer}, errors=(404,))
    def remove(exchange: str, symbol: str) -> Response:
        """Stops collecting an instrument; its bars stay, and it can be added again."""
        found = web.find(symbol, exchange)
        item = web.watchlist.deactivate(found.symbol, found.exchange.value) if found.active else found
        return _json(instrument_json(web, item))


def symbol_json(item: Instrument) -> dict[str, Any]:
    """What an exchange lists of an instrument."""
    return {
        "symbol": item.symbol,
        "active": item.active,
        "price_decimals": item.price_decimals,
        "currency": item.currency,
        "asset_class": item.asset_class,
        "calendar": item.calendar,
    }


def instrument_json(web: Web, item: Instrument) -> dict[str, Any]:
    """The instrument with the hours of its market and the state of its feed."""
    title = RULES[item.exchange].title
    return {"exchange": item.exchange.value, "title": title, **symbol_json(item), **market_facts(web.watch, item)}


def _known(web: Web, wanted: NewInstrument) -> Instrument | None:
    try:
        return web.find(wanted.symbol, wanted.exchange.value)
    except UnknownInstrument:
        return None


def _json(body: Any, *, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status=status, mimetype=JSON)
