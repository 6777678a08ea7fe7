"""Instruments: what is traded where, and how its symbol is written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Exchange(StrEnum):
    """A source of market data; its value is the name users write."""

    BINANCE = "binance"
    ALPACA = "alpaca"
    YAHOO = "yahoo"


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """What differs between exchanges: data, not code."""

    title: str
    contiguous_ids: bool  # trade ids of a symbol have no gaps, so a gap is a missing trade
    flat_bars: bool  # the exchange's own series has a flat bar for a quiet minute
    native_daily: bool  # 1d is the source's own bar, not a roll-up
    calendar: str
    streamed: bool  # trades come over a stream; else bars are polled
    compared: tuple[str, ...]  # the fields in which our bar and the exchange's own must be equal
    delay_s: int  # how far behind the market the source's bars are, by its own word
    history_lag_s: int  # a minute that ended so long ago and is not in the source's history is not there
    extended_hours: bool = False  # it has the hours around a session, which EXTENDED_HOURS keeps


_PRICES = ("open", "high", "low", "close")

RULES: dict[Exchange, ExchangeRules] = {
    Exchange.BINANCE: ExchangeRules(
        "Binance", True, True, False, "24/7", True,
        (*_PRICES, "volume", "quote_volume", "taker_buy_volume", "trade_count"), 0, 600,
    ),
    Exchange.ALPACA: ExchangeRules(
        "Alpaca", False, False, True, "XNYS", True, (*_PRICES, "volume", "trade_count"), 0, 30, True,
    ),
    Exchange.YAHOO: ExchangeRules(
        "Borsa Istanbul", False, False, True, "XIST", False, (*_PRICES, "volume"), 900, 60,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol on one exchange."""

    id: int
    exchange: Exchange
    symbol: str  # canonical: BTC/USDT, AAPL, THYAO.IS
    wire_symbol: str  # as the exchange writes it: BTCUSDT
    asset_class: str  # crypto, stock
    currency: str
    calendar: str
    active: bool
    price_decimals: int

    @property
    def key(self) -> str:
        """`binance:BTC/USDT`, as channels and cache keys name it."""
        return f"{self.exchange.value}:{self.symbol}"


def canonical(text: str) -> str:
    """The canonical symbol for what a user may write: btc-usdt, BTC%2FUSDT decoded, BTC/USDT.

    Only the first dash of a two-part symbol stands for the slash; the look-up tries the text as it is first, so a
    symbol that really has a dash is still found.
    """
    symbol = text.strip().upper().replace("%2F", "/")
    if "/" not in symbol and symbol.count("-") == 1 and not symbol.endswith("-"):
        symbol = symbol.replace("-", "/")
    return symbol


# The watchlist a new database starts with: (exchange, symbol, price decimals).
SEED: tuple[tuple[Exchange, str, int], ...] = (
    *(
        (Exchange.BINANCE, f"{base}/USDT", places)
        for base, places in (("BTC", 2), ("ETH", 2), ("SOL", 2), ("BNB", 2), ("ADA", 4))
    ),
    *((Exchange.ALPACA, symbol, 2) for symbol in ("AAPL", "TSLA", "NVDA", "MSFT", "GOOGL", "AMZN", "META")),
    *((Exchange.YAHOO, f"{symbol}.IS", 2) for symbol in ("THYAO", "GARAN", "ISCTR", "AKBNK", "SISE")),
)


def describe(exchange: Exchange, symbol: str) -> tuple[str, str, str]:
    """(wire symbol, asset class, currency) of a canonical symbol on an exchange."""
    if exchange is Exchange.BINANCE:
        base, _, quote = symbol.partition("/")
        return base + quote, "crypto", quote
    return symbol, "stock", "TRY" if symbol.endswith(".IS") else "USD"
