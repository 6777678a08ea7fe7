"""The generated market's symbols: what is known of them, and what is made up for the others."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from app.errors import BadInput
from app.sandbox.tape import Spec

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY")


@dataclass(frozen=True, slots=True)
class Character:
    """How a symbol trades: its price, its share of all trades, the size of a usual trade, how often it is quiet."""

    spec: Spec
    price: float
    share: float
    usual_size: float
    quiet: float


def _usdt(base: str, price: float, places: tuple[int, int], share: float, size: float, quiet: float) -> Character:
    return Character(Spec(base, "USDT", *places), price, share, size, quiet)


# price decimals + size decimals <= 8, so that price × size is exact in 8 places, as on the exchange.
MAJORS = (
    _usdt("BTC", 67_000, (2, 5), 0.44, 0.006, 0.0),
    _usdt("ETH", 3_400, (2, 4), 0.25, 0.12, 0.0),
    _usdt("SOL", 150, (2, 3), 0.14, 2.5, 0.005),
    _usdt("BNB", 590, (2, 3), 0.10, 0.6, 0.02),
    _usdt("ADA", 0.45, (4, 1), 0.07, 400, 0.05),
)
OTHERS = (
    _usdt("XRP", 0.52, (4, 1), 0.06, 500, 0.03),
    _usdt("DOGE", 0.12, (5, 0), 0.05, 2_000, 0.04),
    _usdt("DOT", 6.1, (3, 2), 0.03, 40, 0.08),
    _usdt("LTC", 82, (2, 3), 0.03, 3, 0.08),
    _usdt("LINK", 14.5, (2, 2), 0.03, 15, 0.08),
    _usdt("AVAX", 27, (2, 2), 0.03, 9, 0.08),
    _usdt("TRX", 0.16, (4, 1), 0.03, 1_500, 0.08),
    _usdt("UNI", 7.8, (3, 2), 0.02, 25, 0.12),
    _usdt("ATOM", 6.5, (3, 2), 0.02, 30, 0.12),
    _usdt("NEAR", 4.4, (3, 1), 0.02, 50, 0.12),
    _usdt("SUI", 1.9, (4, 1), 0.02, 120, 0.12),
    _usdt("BCH", 340, (1, 3), 0.02, 0.5, 0.12),
    _usdt("ETC", 19, (2, 2), 0.02, 10, 0.15),
    _usdt("FIL", 3.9, (3, 2), 0.01, 40, 0.2),
    _usdt("AAVE", 155, (2, 3), 0.01, 1.2, 0.2),
)
_KNOWN = {character.spec.symbol: character for character in (*MAJORS, *OTHERS)}


def characters(symbols: tuple[str, ...], trades_per_second: float) -> list[tuple[Character, float]]:
    """Each symbol with its trades a second.

    Without `symbols` it is the whole catalogue, the five majors together at the rate and the others beside them:
    a symbol nobody asks for costs nothing. With `symbols` these share the rate.
    """
    if not symbols:
        chosen, total = [*MAJORS, *OTHERS], sum(character.share for character in MAJORS)
    else:
        chosen = [_KNOWN.get(symbol) or _invent(symbol) for symbol in dict.fromkeys(symbols)]
        total = sum(character.share for character in chosen)
    return [(character, trades_per_second * character.share / total) for character in chosen]


def _invent(symbol: str) -> Character:
    base, slash, quote = symbol.partition("/")
    if not (base.isalnum() and quote.isalnum() and slash):
        raise BadInput(f"--symbols: {symbol!r} is not written like BTC/USDT")
    draw = zlib.crc32(symbol.encode())
    price = float(f"{10 ** (draw % 4_000 / 1_000 - 1):.3g}")  # 0.1 to 1,000
    places = (2, 3) if price >= 10 else (4, 2)
    return Character(Spec(base, quote, *places), price, 0.05, max(100 / price, 0.01), 0.05)


def split_wire(wire: str) -> tuple[str, str]:
    """(base, quote) of a wire symbol; raises BadInput where no known quote currency ends it."""
    for quote in QUOTES:
        if wire.endswith(quote) and len(wire) > len(quote):
            return wire[: -len(quote)], quote
    raise BadInput(f"{wire!r} ends in no quote currency known here ({', '.join(QUOTES)})")
