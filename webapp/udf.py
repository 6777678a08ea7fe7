"""TradingView's UDF: what its charting library asks a data feed, read only.

The protocol is TradingView's: https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF.
Times are seconds here, bars of 1D stand at 00:00 UTC of their session's date.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from flask import Blueprint, Response, request
from pydantic import BeforeValidator, ConfigDict, Field

from app.domain.bars import Bar
from app.domain.instruments import RULES, Instrument
from app.errors import PlatformError, UnknownInstrument
from app.services.charts import ChartRequest
from webapp.composition import Web, last_prices
from webapp.schemas import LAST_MS, MAX_BARS, BadParameter, Query
from webapp.udf_symbols import RESOLUTIONS, Symbols, configuration, found, full_name
from webapp.watch import NO_BOOK

MOST_FOUND = 100
MOST_QUOTES = 100


def _second(value: Any) -> Any:
    """The library asks from before 1970 where a chart is wide, and to far beyond today."""
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return max(0, min(int(value[:20]), LAST_MS // 1000))
    return value


class _Query(Query):
    """Parameters of UDF: libraries add some of their own, which are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SymbolQuery(_Query):
    """The parameters of /udf/symbols."""

    symbol: str = Field(min_length=1)


class SearchQuery(_Query):
    """The parameters of /udf/search."""

    query: str = ""
    type: str = ""
    exchange: str = ""
    limit: int = Field(30, ge=1)


class HistoryQuery(SymbolQuery):
    """The parameters of /udf/history: [from, to) in seconds, or the newest `countback` bars before `to`."""

    resolution: str
    start_s: Annotated[int, BeforeValidator(_second)] = Field(0, alias="from")
    end_s: Annotated[int, BeforeValidator(_second)] = Field(LAST_MS // 1000, alias="to")
    countback: int | None = Field(None, ge=0)


class QuotesQuery(_Query):
    """The parameters of /udf/quotes."""

    symbols: str = Field(min_length=1)


def blueprint(web: Web) -> Blueprint:
    """The routes below /udf."""
    udf = Blueprint("udf", __name__, url_prefix="/udf")
    symbols = Symbols(web)

    @udf.get("/config")
    def config() -> Response:
        """What this data feed can do."""
        return _json(configuration())

    @udf.get("/time")
    def now() -> Response:
        """Exchange time in seconds, as plain text."""
        return Response(str(web.now_ms() // 1000), mimetype="text/plain")

    @udf.get("/symbols")
    def resolve() -> Response:
        """One symbol by its name or ticker."""
        return _json(symbols.describe(_find(web, SymbolQuery.read(request.args).symbol)))

    @udf.get("/symbol_info")
    def group() -> Response:
        """All symbols, or those of the exchange `group`, as columns."""
        exchange = request.args.get("group", "")
        return _json(symbols.table(found(web.instruments(), text="", exchange=exchange, kind="")))

    @udf.get("/search")
    def search() -> Response:
        """Symbols that contain a text."""
        query = SearchQuery.read(request.args)
        items = found(web.instruments(), text=query.query, exchange=query.exchange, kind=query.type)
        return _json([_hit(item) for item in items[: min(query.limit, MOST_FOUND)]])

    @udf.get("/history")
    def history() -> Response:
        """The bars of a series, the live one too."""
        return _json(_history(web, HistoryQuery.read(request.args)))

    @udf.get("/quotes")
    def quotes() -> Response:
        """Last prices, and the last 24 hours, of several symbols."""
        names = [name.strip() for name in QuotesQuery.read(request.args).symbols.split(",") if name.strip()]
        if len(names) > MOST_QUOTES:
            raise BadParameter(f"symbols: at most {MOST_QUOTES} at a time, not {len(names)}")
        return _json({"s": "ok", "d": _quotes(web, names)})

    @udf.after_request
    def never_stored(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return udf


def _history(web: Web, query: HistoryQuery) -> dict[str, Any]:
    name = query.resolution.upper()
    tf = RESOLUTIONS.get("1D" if name == "D" else name)
    if tf is None:
        raise BadParameter(f"resolution: {query.resolution!r} is not one of {', '.join(RESOLUTIONS)}")
    instrument = _find(web, query.symbol)
    start_ms, end_ms = query.start_s * 1000, query.end_s * 1000
    if query.countback:  # it goes before `from`, as TradingView has it
        asked = ChartRequest(tf, min(query.countback, MAX_BARS), None, end_ms, ())
    else:
        asked = ChartRequest(tf, MAX_BARS, start_ms, end_ms, ())
    with web.reads.connect() as conn:
        bars = [] if start_ms >= end_ms and not query.countback else web.charts.series(conn, instrument, asked)
        if bars:
            return {"s": "ok", **_columns(bars)}
        before = end_ms if query.countback else min(start_ms, end_ms)
        earlier = web.charts.series(conn, instrument, ChartRequest(tf, 1, None, before, ()))
    return {"s": "no_data", **({"nextTime": earlier[-1].time_ms // 1000} if earlier else {})}


def _columns(bars: list[Bar]) -> dict[str, list[Any]]:
    return {
        "t": [bar.time_ms // 1000 for bar in bars],
        "o": [bar.open for bar in bars],
        "h": [bar.high for bar in bars],
        "l": [bar.low for bar in bars],
        "c": [bar.close for bar in bars],
        "v": [float(round(bar.volume, 8)) for bar in bars],
    }


def _hit(item: Instrument) -> dict[str, str]:
    title = RULES[item.exchange].title
    return {
        "symbol": item.symbol,
        "full_name": full_name(item),
        "description": f"{item.symbol} · {title}",
        "exchange": title,
        "ticker": item.key,
        "type": item.asset_class,
    }


def _quotes(web: Web, names: list[str]) -> list[dict[str, Any]]:
    known = {item.key.lower(): item for item in web.instruments()}
    items: dict[str, Instrument] = {}
    errors: dict[str, str] = {}
    for name in names:
        try:
            items[name] = known.get(name.lower()) or _find(web, name)
        except PlatformError as error:
            errors[name] = str(error)
    wanted = list({item.id: item for item in items.values()}.values())
    books = web.watch.quotes()
    rows = {
        item.id: {**row, **books.get(item.key, NO_BOOK)}
        for item, row in zip(wanted, web.overview.rows(wanted, last_prices(web)), strict=True)
    }
    return [
        {"s": "ok", "n": name, "v": _quote(items[name], rows[items[name].id])}
        if name in items
        else {"s": "error", "n": name, "v": {}, "errmsg": errors[name]}
        for name in names
    ]


def _quote(item: Instrument, row: dict[str, Any]) -> dict[str, Any]:
    """The values of one symbol; its changes are over 24 hours, and what is not known is left out."""
    price, change, book = row["price"], row["change_24h"], row["book"] or {}
    kept = 0.0 if change is None else 1 + change / 100  # of the price a day ago; a rounded -100 % tells nothing of it
    before = price / kept if price is not None and kept > 0 else None
    values = {
        "lp": price,
        "ch": None if before is None else round(price - before, item.price_decimals),
        "chp": change,
        "prev_close_price": None if before is None else round(before, item.price_decimals),
        "high_price": row["high_24h"],
        "low_price": row["low_24h"],
        "volume": row["volume_24h"],
        "bid": book.get("bid"),
        "ask": book.get("ask"),
        "short_name": item.symbol,
        "exchange": RULES[item.exchange].title,
        "description": f"{item.symbol} · {RULES[item.exchange].title}",
        "original_name": full_name(item),
    }
    return {name: value for name, value in values.items() if value is not None}


def _find(web: Web, text: str) -> Instrument:
    """The instrument a name or ticker means: `BTC/USDT`, `BINANCE:BTC/USDT`, `Borsa Istanbul:THYAO.IS`."""
    exchange, colon, symbol = text.partition(":")
    if not colon:
        return web.find(text, None)
    if not exchange.isprintable():
        raise UnknownInstrument(f"unknown symbol {text!r}")
    titles = {RULES[name].title.lower(): name.value for name in RULES}
    return web.find(symbol, titles.get(exchange.strip().lower(), exchange))


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), mimetype="application/json")
