"""Where a symbol of Yahoo Finance trades: its suffix names the exchange, which has a calendar and a currency.

Suffixes: https://help.yahoo.com/kb/SLN2310.html (exchanges and data providers of Yahoo Finance). Calendars are those of
exchange_calendars (ISO 10383 codes). London quotes most shares in pence, Johannesburg in cents: Yahoo's currency for
the symbol is the last word, this table the first.
"""

from __future__ import annotations

from app.errors import BadInput

HOME = ("XNYS", "USD")  # a symbol without a suffix: New York and NASDAQ keep the same days and hours

MARKETS: dict[str, tuple[str, str]] = {
    "IS": ("XIST", "TRY"),
    "L": ("XLON", "GBP"),
    "DE": ("XETR", "EUR"),
    "F": ("XFRA", "EUR"),
    "PA": ("XPAR", "EUR"),
    "AS": ("XAMS", "EUR"),
    "BR": ("XBRU", "EUR"),
    "LS": ("XLIS", "EUR"),
    "MI": ("XMIL", "EUR"),
    "MC": ("XMAD", "EUR"),
    "IR": ("XDUB", "EUR"),
    "VI": ("XWBO", "EUR"),
    "HE": ("XHEL", "EUR"),
    "SW": ("XSWX", "CHF"),
    "ST": ("XSTO", "SEK"),
    "OL": ("XOSL", "NOK"),
    "CO": ("XCSE", "DKK"),
    "WA": ("XWAR", "PLN"),
    "PR": ("XPRA", "CZK"),
    "BD": ("XBUD", "HUF"),
    "TO": ("XTSE", "CAD"),
    "MX": ("XMEX", "MXN"),
    "SA": ("BVMF", "BRL"),
    "SN": ("XSGO", "CLP"),
    "BA": ("XBUE", "ARS"),
    "T": ("XTKS", "JPY"),
    "HK": ("XHKG", "HKD"),
    "SS": ("XSHG", "CNY"),
    "SZ": ("XSHG", "CNY"),
    "TW": ("XTAI", "TWD"),
    "KS": ("XKRX", "KRW"),
    "KQ": ("XKRX", "KRW"),
    "SI": ("XSES", "SGD"),
    "KL": ("XKLS", "MYR"),
    "JK": ("XIDX", "IDR"),
    "BK": ("XBKK", "THB"),
    "BO": ("XBOM", "INR"),
    "NS": ("XBOM", "INR"),
    "AX": ("XASX", "AUD"),
    "NZ": ("XNZE", "NZD"),
    "JO": ("XJSE", "ZAR"),
    "SR": ("XSAU", "SAR"),
}


def market_of(symbol: str) -> tuple[str, str]:
    """(calendar, currency) of a Yahoo symbol (THYAO.IS, AAPL, BRK-B); raises BadInput naming an unknown suffix."""
    name, dot, suffix = symbol.strip().upper().rpartition(".")
    if not dot:
        return HOME
    if not name or suffix not in MARKETS:
        known = ", ".join(f".{item}" for item in sorted(MARKETS))
        raise BadInput(f"{symbol}: Yahoo's suffix .{suffix} has no known calendar; known are {known}, or none (USA)")
    return MARKETS[suffix]
