"""Yahoo's chart on the wire: `parse_*` for the client, `build_*` for the simulated market. Bytes in, values out.

The format is not documented by Yahoo; it is what `GET /v8/finance/chart/{symbol}` answers and what yfinance reads:
one result with `meta`, `timestamp` (seconds) and `indicators.quote[0]`, columns in which a quiet minute is null; or an
error object with code and description. The bar that is not over yet comes last, under the time of its last trade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from app.errors import WireError

PRICES = ("open", "high", "low", "close")
RANGES = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")


class Period(NamedTuple):
    """A regular session, UTC seconds [start, end), as Yahoo knows it."""

    start_s: int
    end_s: int


class Meta(NamedTuple):
    """What a chart says of its symbol; the last price and its time, and the session of now."""

    symbol: str
    currency: str
    exchange: str  # Yahoo's code: NMS, IST
    exchange_name: str
    name: str
    timezone: str
    utc_offset_s: int
    price_hint: int  # decimals of the price
    price: float | None
    price_time_s: int | None
    period: Period | None


class Row(NamedTuple):
    """One bar as it stands in the columns; a price is None where nobody traded."""

    time_s: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: int | None


class Chart(NamedTuple):
    """A chart: its meta and rows, oldest first."""

    meta: Meta
    rows: list[Row]


class Refusal(NamedTuple):
    """Yahoo's own word on why there is no chart."""

    code: str
    description: str


def parse_chart(body: bytes | str) -> Chart | Refusal:
    """The chart in an answer, or the refusal; raises WireError for anything else (truncated, not JSON, no chart)."""
    try:
        answer = orjson.loads(body)
        refused = parse_refusal(answer)
        if refused is not None:
            return refused
        result = answer["chart"]["result"][0]
        return Chart(_meta(result["meta"]), _rows(result))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise WireError(f"Yahoo sent what is no chart ({error!r}): {_shorten(body)}") from error


def parse_refusal(answer: Any) -> Refusal | None:
    """The error object of an answer, under `chart` or `finance`; None where it has none."""
    for part in ("chart", "finance"):
        error = (answer.get(part) or {}).get("error")
        if error:
            return Refusal(str(error.get("code", "")), str(error.get("description", ""))[:300])
    return None


def _meta(meta: Mapping[str, Any]) -> Meta:
    period = (meta.get("currentTradingPeriod") or {}).get("regular")
    price, time_s = meta.get("regularMarketPrice"), meta.get("regularMarketTime")
    return Meta(
        str(meta["symbol"]),
        str(meta.get("currency") or ""),
        str(meta.get("exchangeName") or ""),
        str(meta.get("fullExchangeName") or ""),
        str(meta.get("longName") or meta.get("shortName") or ""),
        str(meta["exchangeTimezoneName"]),
        int(meta.get("gmtoffset") or 0),
        int(meta.get("priceHint") or 2),
        None if price is None else float(price),
        None if time_s is None else int(time_s),
        None if period is None else Period(int(period["start"]), int(period["end"])),
    )


def _rows(result: Mapping[str, Any]) -> list[Row]:
    times = result.get("timestamp") or []
    quote = (result["indicators"]["quote"] or [{}])[0]
    if not times:
        return []
    columns = [[_number(value) for value in quote[name]] for name in PRICES]
    volumes = [None if value is None else int(value) for value in quote["volume"]]
    return [Row(*row) for row in zip(map(int, times), *columns, volumes, strict=True)]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def build_chart(
    meta: Meta, rows: Sequence[Row], *, interval: str, periods: Sequence[Period] = (), span: str = ""
) -> dict[str, Any]:
    """The answer with a chart; `periods` are the sessions it touches (intraday), `span` the range asked for by name."""
    head: dict[str, Any] = {
        "currency": meta.currency,
        "symbol": meta.symbol,
        "exchangeName": meta.exchange,
        "fullExchangeName": meta.exchange_name,
        "instrumentType": "EQUITY",
        "firstTradeDate": None,
        "regularMarketTime": meta.price_time_s,
        "hasPrePostMarketData": False,
        "gmtoffset": meta.utc_offset_s,
        "timezone": meta.timezone.rpartition("/")[2][:3].upper(),
        "exchangeTimezoneName": meta.timezone,
        "regularMarketPrice": meta.price,
        "longName": meta.name,
        "shortName": meta.name,
        "priceHint": meta.price_hint,
        "dataGranularity": interval,
        "range": span,
        "validRanges": list(RANGES),
    }
    if meta.period is not None:
        around = Period(meta.period.start_s, meta.period.start_s), Period(meta.period.end_s, meta.period.end_s)
        names = ("pre", "regular", "post")
        every = zip(names, (around[0], meta.period, around[1]), strict=True)
        head["currentTradingPeriod"] = {name: _period(meta, period) for name, period in every}
    if periods:
        head["tradingPeriods"] = [[_period(meta, period)] for period in periods]
    result: dict[str, Any] = {"meta": head, "indicators": {"quote": [{}]}}
    if rows:
        quote = {name: [getattr(row, name) for row in rows] for name in (*PRICES, "volume")}
        result |= {"timestamp": [row.time_s for row in rows], "indicators": {"quote": [quote]}}
        if interval == "1d":
            result["indicators"]["adjclose"] = [{"adjclose": quote["close"]}]
    return {"chart": {"result": [result], "error": None}}


def _period(meta: Meta, period: Period) -> dict[str, Any]:
    zone = meta.timezone.rpartition("/")[2][:3].upper()
    return {"timezone": zone, "start": period.start_s, "end": period.end_s, "gmtoffset": meta.utc_offset_s}


def build_refusal(code: str, description: str) -> dict[str, Any]:
    """The answer without a chart."""
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


def _shorten(body: bytes | str) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return text[:120]
