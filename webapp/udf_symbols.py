"""Instruments as TradingView's UDF describes them: names, hours and precision of a symbol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from app.domain.hours import Hours, trading_hours
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.timeframes import DAY_MS, Timeframe
from app.storage import sessions
from webapp.composition import Web

BACK_MS, AHEAD_MS = 400 * DAY_MS, 60 * DAY_MS  # whose holidays and half days are told
KEEP_S = 60.0  # wall time a calendar's hours are kept

RESOLUTIONS: dict[str, Timeframe] = {
    "1": Timeframe.M1,
    "5": Timeframe.M5,
    "15": Timeframe.M15,
    "60": Timeframe.H1,
    "240": Timeframe.H4,
    "1D": Timeframe.D1,
}
INTRADAY = [name for name in RESOLUTIONS if name != "1D"]
VOLUME_DECIMALS = {"crypto": 8, "stock": 0}


def configuration() -> dict[str, Any]:
    """The answer of /udf/config."""
    return {
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": False,
        "supports_timescale_marks": False,
        "supports_time": True,
        "supported_resolutions": list(RESOLUTIONS),
        "exchanges": [
            {"value": "", "name": "All exchanges", "desc": "All exchanges"},
            *({"value": name.value, "name": RULES[name].title, "desc": RULES[name].title} for name in Exchange),
        ],
        "symbols_types": [
            {"name": "All types", "value": ""},
            {"name": "Crypto", "value": "crypto"},
            {"name": "Stocks", "value": "stock"},
        ],
    }


class Symbols:
    """Describes instruments; a calendar's sessions are read once a minute."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._hours: dict[tuple[str, bool], tuple[float, Hours]] = {}

    def describe(self, item: Instrument) -> dict[str, Any]:
        """The symbol as /udf/symbols tells it."""
        hours, delay_s = self.hours(item), RULES[item.exchange].delay_s
        title = RULES[item.exchange].title
        return {
            "name": item.symbol,
            "full_name": full_name(item),
            "ticker": item.key,
            "description": f"{item.symbol} · {title}",
            "type": item.asset_class,
            "exchange": title,
            "listed_exchange": title,
            "exchange-traded": title,
            "exchange-listed": title,
            "timezone": hours.zone,
            "session": hours.session,
            "session_holidays": ",".join(hours.holidays),
            "corrections": ";".join(hours.corrections),
            "minmov": 1,
            "minmovement": 1,
            "minmov2": 0,
            "pricescale": 10**item.price_decimals,
            "format": "price",
            "has_intraday": True,
            "has_daily": True,
            "has_weekly_and_monthly": False,
            "intraday_multipliers": INTRADAY,
            "supported_resolutions": list(RESOLUTIONS),
            "visible_plots_set": "ohlcv",
            "volume_precision": VOLUME_DECIMALS.get(item.asset_class, 0),
            "currency_code": item.currency,
            "data_status": "delayed_streaming" if delay_s else "streaming",
            "delay": delay_s,
            "expired": False,
        }

    def table(self, items: Iterable[Instrument]) -> dict[str, list[Any]]:
        """The symbols as /udf/symbol_info tells them: a column for each fact."""
        rows = [self.describe(item) for item in items]
        return {column: [row[name] for row in rows] for column, name in _COLUMNS.items()}

    def hours(self, item: Instrument) -> Hours:
        """The trading hours of an instrument, from its calendar's stored sessions."""
        extended = self._web.settings.extended_hours and RULES[item.exchange].extended_hours
        read_at, known = self._hours.get((item.calendar, extended), (0.0, None))
        if known is None or time.monotonic() - read_at > KEEP_S:
            now_ms = self._web.now_ms()
            with self._web.reads.connect() as conn:
                stored = sessions.read(conn, item.calendar, now_ms - BACK_MS, now_ms + AHEAD_MS)
            known = trading_hours(item.calendar, stored, extended=extended)
            self._hours[item.calendar, extended] = (time.monotonic(), known)
        return known


_COLUMNS: Mapping[str, str] = {
    "symbol": "name",
    "full-name": "full_name",
    "description": "description",
    "exchange-listed": "exchange-listed",
    "exchange-traded": "exchange-traded",
    "type": "type",
    "ticker": "ticker",
    "timezone": "timezone",
    "session-regular": "session",
    "session-holidays": "session_holidays",
    "corrections": "corrections",
    "minmovement": "minmov",
    "minmov2": "minmov2",
    "pricescale": "pricescale",
    "has-intraday": "has_intraday",
    "has-daily": "has_daily",
    "has-weekly-and-monthly": "has_weekly_and_monthly",
    "intraday-multipliers": "intraday_multipliers",
    "supported-resolutions": "supported_resolutions",
    "visible-plots-set": "visible_plots_set",
    "volume-precision": "volume_precision",
    "currency-code": "currency_code",
}


def full_name(item: Instrument) -> str:
    """`BINANCE:BTC/USDT`."""
    return f"{item.exchange.value.upper()}:{item.symbol}"


def found(items: Iterable[Instrument], *, text: str, exchange: str, kind: str) -> list[Instrument]:
    """The instruments a user searches: those whose symbol begins with the text first."""
    wanted = _bare(text.rpartition(":")[2])
    chosen = [
        item
        for item in items
        if (not exchange or exchange.lower() in (item.exchange.value, RULES[item.exchange].title.lower()))
        and (not kind or item.asset_class == kind)
        and wanted in _bare(item.symbol)
    ]
    return sorted(chosen, key=lambda item: (not _bare(item.symbol).startswith(wanted), item.symbol, item.exchange))


def _bare(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum())
