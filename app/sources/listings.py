"""Whether an exchange has a symbol, in its own words: Binance's exchangeInfo, Alpaca's assets, Yahoo's chart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from app.domain.instruments import Exchange
from app.domain.listing import Listing, unasked
from app.errors import Forbidden, UnknownInstrument
from app.sources.by_exchange import Sources
from app.sources.limited import Absent, Limited, Source


class Asset(Protocol):
    """What Alpaca says of a stock (app.sources.alpaca)."""

    @property
    def status(self) -> str: ...
    @property
    def tradable(self) -> bool: ...


class Assets(Source, Protocol):
    """app.sources.alpaca.AlpacaHistory, as far as it lists."""

    def asset(self, symbol: str) -> Asset: ...


class Described(Source, Protocol):
    """app.sources.yahoo.YahooHistory, as far as it lists."""

    def describe(self, symbol: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Listings:
    """Asks each exchange, within the limits all processes share."""

    sources: Sources

    def look(self, exchange: Exchange, symbol: str) -> Listing:
        """The canonical symbol as its exchange lists it.

        Raises UnknownInstrument with the exchange's own word where it has none such, BadInput where the symbol's
        market is unknown, Forbidden without a key, another SourceError where the exchange does not answer.
        """
        known = unasked(exchange, symbol)
        match exchange:
            case Exchange.BINANCE:
                return self._binance(known)
            case Exchange.ALPACA:
                asset = cast(Limited[Assets], self._source(exchange)).ask(lambda source: source.asset(symbol))
                return replace(known, status=_refusal(asset))
            case Exchange.YAHOO:
                said = cast(Limited[Described], self._source(exchange)).ask(lambda source: source.describe(symbol))
                return replace(known, currency=said.currency or known.currency, price_decimals=said.price_decimals)

    def _binance(self, known: Listing) -> Listing:
        from app.sources.binance import INFO_WEIGHT

        base, _, quote = known.symbol.partition("/")
        try:
            info = self.sources.binance().ask(lambda source: source.exchange_info(base + quote), INFO_WEIGHT)
        except UnknownInstrument as error:
            word = f"binance lists no {known.symbol} ({error})"
            raise UnknownInstrument(f"unknown symbol {known.symbol!r}: {word}") from None
        if (info.base, info.quote) != (base, quote):
            raise UnknownInstrument(f"unknown symbol {known.symbol!r}: binance writes it {info.base}/{info.quote}")
        return replace(known, price_decimals=info.price_decimals, status="" if info.trading else info.status)

    def _source(self, exchange: Exchange) -> Limited[Source]:
        source = self.sources.history(exchange)
        if isinstance(source, Absent):
            raise Forbidden(source.reason)
        return source


def _refusal(asset: Asset) -> str:
    if asset.status != "active":
        return asset.status
    return "" if asset.tradable else "active, but not tradable"
