"""The REST API of data quality: what is missing, and where our bars differed from the exchange's own."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, request

from app.domain.gaps import CAUSES
from app.storage import quality
from webapp.answers_series import DifferencesAnswer, HolesAnswer
from webapp.composition import Web
from webapp.openapi import describe
from webapp.schemas import HolesQuery, PageQuery


def install(api: Blueprint, web: Web) -> None:
    """Add the routes below /api."""

    @api.get("/holes")
    @describe(query=HolesQuery, answers={200: HolesAnswer}, errors=(400, 404), tag="quality")
    def holes() -> Response:
        """Holes, newest first, with how often and with what result a repair was tried."""
        query = HolesQuery.read(request.args)
        page = _page(web, query)  # it asks the database itself: not beside another connection
        with web.reads.connect() as conn:
            rows = quality.holes(conn, open_only=query.open, **page)
        for row in rows:
            row["reason"] = CAUSES.get(row["cause"], row["cause"])
        return _listed("holes", rows, limit=query.limit)

    @api.get("/differences")
    @describe(query=PageQuery, answers={200: DifferencesAnswer}, errors=(400, 404), tag="quality")
    def differences() -> Response:
        """Where a bar of ours and the exchange's own were not equal, newest first, with what both said."""
        query = PageQuery.read(request.args)
        page = _page(web, query)
        with web.reads.connect() as conn:
            rows = quality.differences(conn, **page)
        return _listed("differences", rows, limit=query.limit)


def _page(web: Web, query: PageQuery) -> dict[str, Any]:
    """What the store is asked; an unknown symbol is refused, as a chart's is."""
    exchange, symbol = query.exchange.value if query.exchange else None, query.symbol
    if symbol is not None:
        found = web.find(symbol, exchange)
        exchange, symbol = found.exchange.value, found.symbol
    return {"exchange": exchange, "symbol": symbol, "before": query.before, "limit": query.limit}


def _listed(name: str, rows: list[dict[str, Any]], *, limit: int) -> Response:
    """One page; `next` is None where it was the last."""
    more = rows[-1]["id"] if len(rows) == limit else None
    return Response(orjson.dumps({name: rows, "next": more}), mimetype="application/json")
