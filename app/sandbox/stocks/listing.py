"""The stocks of the simulated market: what is known of them, and what is made up for the others."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from app.domain.instruments import SEED, Exchange
from app.errors import BadInput

_PLAIN = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")
_ISTANBUL = re.compile(r"[A-Z0-9]{2,6}\.IS")


@dataclass(frozen=True, slots=True)
class Listing:
    """How a stock trades: price, share of all trades, shares of a usual trade, odd lots and quiet minutes."""

    symbol: str
    name: str
    venue: str  # where it is listed: NASDAQ, NYSE, ARCA, IST
    tape: str  # of the consolidated tape: A New York, B regional, C Nasdaq
    price: float
    share: float
    usual_size: float
    odd: float  # part of its trades that are smaller than a round lot
    quiet: float  # part of its minutes without any trade

    @property
    def calendar(self) -> str:
        """XIST for Istanbul's, XNYS for all others."""
        return "XIST" if self.symbol.endswith(".IS") else "XNYS"

    @property
    def currency(self) -> str:
        """TRY for Istanbul's, USD for all others."""
        return "TRY" if self.symbol.endswith(".IS") else "USD"


def _nasdaq(symbol: str, name: str, price: float, share: float, size: float, odd: float, quiet: float) -> Listing:
    return Listing(symbol, name, "NASDAQ", "C", price, share, size, odd, quiet)


def _istanbul(symbol: str, name: str, price: float, share: float, size: float, quiet: float) -> Listing:
    return Listing(f"{symbol}.IS", name, "IST", "A", price, share, size, 0.0, quiet)


KNOWN = (
    _nasdaq("AAPL", "Apple Inc. Common Stock", 232, 0.14, 90, 0.3, 0.0),
    _nasdaq("TSLA", "Tesla, Inc. Common Stock", 345, 0.13, 70, 0.35, 0.0),
    _nasdaq("NVDA", "NVIDIA Corporation Common Stock", 141, 0.16, 150, 0.25, 0.0),
    _nasdaq("MSFT", "Microsoft Corporation Common Stock", 421, 0.08, 60, 0.35, 0.01),
    _nasdaq("GOOGL", "Alphabet Inc. Class A Common Stock", 174, 0.07, 70, 0.3, 0.02),
    _nasdaq("AMZN", "Amazon.com, Inc. Common Stock", 203, 0.07, 70, 0.3, 0.02),
    # Thin on purpose: many of its minutes have odd lots only, or nothing.
    _nasdaq("META", "Meta Platforms, Inc. Class A Common Stock", 563, 0.015, 40, 0.75, 0.1),
    _istanbul("THYAO", "TURK HAVA YOLLARI", 285, 0.11, 400, 0.0),
    _istanbul("GARAN", "GARANTI BANKASI", 116, 0.08, 700, 0.01),
    _istanbul("ISCTR", "IS BANKASI (C)", 13.2, 0.08, 5_000, 0.01),
    _istanbul("AKBNK", "AKBANK", 62, 0.06, 1_200, 0.02),
    _istanbul("SISE", "SISE CAM", 42, 0.03, 1_500, 0.08),
    _nasdaq("AMD", "Advanced Micro Devices, Inc. Common Stock", 138, 0.06, 100, 0.3, 0.03),
    _nasdaq("INTC", "Intel Corporation Common Stock", 24.5, 0.05, 300, 0.15, 0.03),
    Listing("IBM", "International Business Machines Corporation", "NYSE", "A", 222, 0.03, 60, 0.4, 0.05),
    Listing("KO", "Coca-Cola Company", "NYSE", "A", 63.5, 0.03, 150, 0.25, 0.05),
    Listing("SPY", "State Street SPDR S&P 500 ETF Trust", "ARCA", "B", 594, 0.1, 100, 0.3, 0.0),
    _istanbul("ASELS", "ASELSAN", 66, 0.04, 900, 0.03),
    _istanbul("TUPRS", "TUPRAS", 148, 0.03, 500, 0.05),
)
_BY_SYMBOL = {listing.symbol: listing for listing in KNOWN}
SEEDED = tuple(symbol for exchange, symbol, _ in SEED if exchange is not Exchange.BINANCE)


def listings(symbols: tuple[str, ...], trades_per_second: float) -> list[tuple[Listing, float]]:
    """Each stock with its trades a second while it is in session.

    Without `symbols` it is all that is known, the platform's own watchlist together at the rate and the others beside
    them: a stock nobody asks for costs nothing. With `symbols` these share the rate.
    """
    chosen = [_BY_SYMBOL.get(symbol) or _invent(symbol) for symbol in dict.fromkeys(symbols)] or list(KNOWN)
    sharing = [listing for listing in chosen if symbols or listing.symbol in SEEDED]
    total = sum(listing.share for listing in sharing)
    return [(listing, trades_per_second * listing.share / total) for listing in chosen]


def _invent(symbol: str) -> Listing:
    istanbul = _ISTANBUL.fullmatch(symbol) is not None
    if not istanbul and not _PLAIN.fullmatch(symbol):
        raise BadInput(f"--stocks: {symbol!r} is not written like AAPL or THYAO.IS")
    draw = zlib.crc32(symbol.encode())
    price = float(f"{10 ** (0.7 + draw % 2_000 / 1_000):.4g}")  # 5 to 500
    if istanbul:
        return _istanbul(symbol.removesuffix(".IS"), symbol, price, 0.05, 20_000 / price, 0.05)
    venue, tape = (("NASDAQ", "C"), ("NYSE", "A"), ("ARCA", "B"))[draw % 3]
    return Listing(symbol, f"{symbol} Common Stock", venue, tape, price, 0.05, 80, 0.3, 0.05)
