"""The REST API: symbols, exchanges, quotes, charts, overview; answers and errors are JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import orjson
from flask import Blueprint, Response, request

from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.timeframes import Timeframe
from webapp import answers, backfills, docs, formats, health, quality, screening, status, watchlist
from webapp.answers_series import ChartAnswer, OverviewAnswer, QuotesAnswer
from webapp.composition import Web, overview_json, quotes_json
from webapp.openapi import JSON, describe
from webapp.schemas import ChartQuery, InstrumentQuery
from webapp.tagged import compressed, tagged, tagged_json


def blueprint(web: Web) -> Blueprint:
    """The routes below /api."""
    api = Blueprint("api", __name__, url_prefix="/api")

    @api.get("/symbols")
    @describe(answers={200: answers.SymbolsAnswer}, tagged=True, tag="instruments")
    @compressed
    def symbols() -> Response:
        """All instruments, by exchange."""
        items = sorted(web.instruments(), key=lambda item: list(RULES).index(item.exchange))
        groups = groupby(items, key=lambda item: item.exchange)
        return tagged_json(
            {
                "exchanges": [
                    {
                        "exchange": name.value,
                        "title": RULES[name].title,
                        "symbols": [watchlist.symbol_json(item) for item in group],
                    }
                    for name, group in groups
                ]
            }
        )

    @api.get("/exchanges")
    @describe(answers={200: answers.ExchangesAnswer})
    def exchanges() -> Response:
        """Each exchange: the hours and the state of its markets, how its data comes in, and what it has."""
        items, states = web.instruments(), web.watch.states()
        found = [
            _exchange(name, states[name.value], [item for item in items if item.exchange is name]) for name in RULES
        ]
        return _json({"exchanges": found})

    @api.get("/quotes")
    @describe(query=InstrumentQuery, answers={200: QuotesAnswer}, errors=(400, 404))
    def quotes() -> Response:
        """Last price, best bid and ask, and halts of the instruments."""
        query = InstrumentQuery.read(request.args)
        if query.symbol is not None:
            found = [web.find(query.symbol, query.exchange.value if query.exchange else None)]
        else:
            found = [item for item in web.instruments() if query.exchange in (None, item.exchange)]
        return _json({"quotes": quotes_json(web, found)})

    @api.get("/charts/<path:symbol>")
    @describe(query=ChartQuery, answers={200: {JSON: ChartAnswer, "text/csv": None}}, errors=(400, 404), tagged=True)
    @compressed
    def charts(symbol: str) -> Response:
        """The bars and indicators of a series, oldest first, the live bar last."""
        query = ChartQuery.read(request.args)
        exchange = query.exchange.value if query.exchange else None
        instrument, chart = web.ready.named(symbol, exchange, query.request)
        if query.format == "json":
            return tagged(chart.body, tag=chart.tag)
        tag = f"{chart.tag}-{query.format}-{'.'.join(query.indicators)}"  # they are columns, without a value too
        if query.format == "columns":
            return tagged(formats.columns_json(chart.body, names=query.indicators), tag=tag)
        response = tagged(formats.csv_text(chart.body, names=query.indicators), tag=tag, mimetype="text/csv")
        name = formats.file_name(instrument, query.timeframe)
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    @api.get("/overview")
    @describe(answers={200: OverviewAnswer}, tagged=True)
    @compressed
    def overview() -> Response:
        """The last price and the last 24 hours of all active instruments."""
        return tagged_json(overview_json(web))

    watchlist.install(api, web)
    quality.install(api, web)
    health.install(api, web)
    docs.install(api)
    screening.install(api, web)
    backfills.install(api, web)
    status.install(api, web)

    @api.after_request
    def never_stored(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return api


def _exchange(name: Exchange, state: dict[str, Any], items: Sequence[Instrument]) -> dict[str, Any]:
    rules = RULES[name]
    active = [item for item in items if item.active]
    return {
        "exchange": name.value,
        "title": rules.title,
        "calendars": sorted({item.calendar for item in active}) or [rules.calendar],
        "streamed": rules.streamed,
        "timeframes": [tf.value for tf in Timeframe],
        "instruments": {"active": len(active), "known": len(items)},
        **state,
    }


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), mimetype=JSON)
