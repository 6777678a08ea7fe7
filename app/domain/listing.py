"""What an exchange says of one of its symbols, as the watchlist needs it."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.instruments import RULES, Exchange, describe
from app.domain.yahoo_markets import market_of

STOCK_DECIMALS = 2


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol as its exchange lists it; `status` is the exchange's own word where it is not traded, else empty."""

    exchange: Exchange
    symbol: str  # canonical
    currency: str
    calendar: str
    price_decimals: int | None
    status: str = ""


def unasked(exchange: Exchange, symbol: str) -> Listing:
    """What is known of a canonical symbol without asking; raises BadInput where its market is unknown."""
    if exchange is Exchange.YAHOO:
        calendar, currency = market_of(symbol)
    else:
        calendar, currency = RULES[exchange].calendar, describe(exchange, symbol)[2]
    return Listing(exchange, symbol, currency, calendar, None if exchange is Exchange.BINANCE else STOCK_DECIMALS)
