"""The pages: market overview, screener, charts and status."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, redirect, render_template, request, send_from_directory
from werkzeug.wrappers import Response as BaseResponse

from app.config import ROOT
from app.domain.instruments import RULES, Instrument, describe
from app.domain.screen_fields import choices
from app.domain.timeframes import Timeframe
from app.domain.zones import zone_of
from app.errors import BadInput, UnknownInstrument
from app.services.watchlist import shaped
from app.storage import catalog
from webapp.composition import Web

STATIC = ROOT / "static"
_DOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#12161c"/>'
    '<path d="M5 3v10M11 3v10" stroke="#8a94a6"/><path d="M3.5 5h3v6h-3z" fill="#26a69a"/>'
    '<path d="M9.5 4h3v5h-3z" fill="#ef6c4d"/></svg>'
)


def blueprint(web: Web) -> Blueprint:
    """The routes of the pages."""
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def overview() -> str:
        """The watchlist by exchange; its rows come by /ws/overview."""
        return render_template("overview.html")

    @pages.get("/multi")
    def multi() -> str:
        """Several charts side by side; which ones is in the address and in the browser's memory."""
        return render_template("multi.html")

    @pages.get("/screener")
    def screener() -> str:
        """All instruments by conditions on bars and indicators; its rows come from /api/screener."""
        return render_template("screener.html", choices=choices())

    @pages.get("/charts/<exchange>/<path:symbol>")
    def chart(exchange: str, symbol: str) -> str | BaseResponse:
        """The chart of one instrument, at its one address."""
        closed = web.settings.api_reads_need_token
        instrument = addressed(exchange, symbol) if closed else web.find(symbol, exchange)
        address = chart_path(instrument)
        if request.path != address:
            args = request.query_string.decode()
            return redirect(f"{quote(address)}?{args}" if args else quote(address), code=308)
        return render_template(
            "chart.html",
            instrument=page_facts(instrument) | ({"price_decimals": None} if closed else {}),
            settings={"repaint_per_s": 1, "timeframes": [tf.value for tf in Timeframe]},
        )

    @pages.get("/status")
    def status() -> str:
        """How the platform is; its numbers come by /api/status."""
        return render_template("status.html", timeframes=[tf.value for tf in Timeframe])

    @pages.get("/favicon.ico")
    def favicon() -> BaseResponse:
        """The icon in the browser's tab."""
        for name in ("favicon.ico", "favicon.svg"):
            if (STATIC / name).is_file():
                return send_from_directory(STATIC, name, max_age=86_400)
        return Response(_DOT, mimetype="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})

    return pages


def addressed(exchange: str, symbol: str) -> Instrument:
    """What an address means by its shape alone, be there such an instrument or not; raises UnknownInstrument.

    Where reads need a token, no page tells which there are: the page itself asks for the rest, with its token.
    """
    where = catalog.exchange_named(exchange)
    try:
        name = shaped(where, symbol)
    except BadInput as error:
        raise UnknownInstrument(f"unknown symbol {symbol!r}: {error}") from None
    return Instrument(0, where, name, *describe(where, name), RULES[where].calendar, True, 0)


def chart_path(instrument: Instrument) -> str:
    """The address of an instrument's chart page: /charts/binance/BTC-USDT."""
    return f"/charts/{instrument.exchange.value}/{instrument.symbol.replace('/', '-')}"


def page_facts(instrument: Instrument) -> dict[str, str | int | bool | None]:
    """What a page knows of an instrument before its data has come."""
    return {
        "exchange": instrument.exchange.value,
        "symbol": instrument.symbol,
        "title": RULES[instrument.exchange].title,
        "price_decimals": instrument.price_decimals,
        "currency": instrument.currency,
        "calendar": instrument.calendar,
        "time_zone": zone_of(instrument.calendar),
        "asset_class": instrument.asset_class,
        "active": instrument.active,
    }
