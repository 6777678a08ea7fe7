"""What happens to stocks' prints after the fact, at random, the same for the same seed.

cancel       a print is taken back, with `probability`, up to `delay_s` of exchange time after it
correct      a print gets another price and size, likewise
late_print   a print is reported only up to `delay_s` after the end of its minute
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.errors import BadInput
from app.sandbox.tape import FAR_US

STOCK_KINDS = ("cancel", "correct", "late_print")


@dataclass(slots=True)
class StockFault:
    """One fault that was asked for, and how far it has got."""

    kind: str
    exchange: str = "alpaca"
    after: int = 0
    at_us: int = 0
    until_us: int = 0  # 0: for ever
    count: int | None = None
    delay_s: float = 60.0
    probability: float = 1.0
    seed: int = 0
    symbol: str = ""  # empty: all that Alpaca tells of
    seen: int = 0
    fired: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in STOCK_KINDS:
            raise BadInput(f"no fault {self.kind!r} of stocks; there are {', '.join(STOCK_KINDS)}")
        if self.exchange != "alpaca":
            raise BadInput(f"{self.kind} happens to prints of alpaca; Istanbul's by naming the symbol")
        if not 0 <= self.probability <= 1 or self.after < 0 or self.delay_s <= 0:
            raise BadInput("a fault needs probability 0 to 1, after >= 0, delay_s > 0")
        self.rng = random.Random(self.seed)

    def means(self, symbol: str) -> bool:
        """Whether the fault is about a stock; Istanbul's only where it is named."""
        return symbol == self.symbol if self.symbol else not symbol.endswith(".IS")

    def strikes(self, symbol: str, number: int, time_us: int) -> bool:
        """Whether the fault happens to a print of that id and time; counts it.

        The chance is drawn from seed, stock and id: the same however many prints are looked at together.
        """
        self.seen += 1
        if (
            (self.count is not None and self.fired >= self.count)
            or not self.at_us <= time_us < (self.until_us or FAR_US)
            or self.seen <= self.after
        ):
            return False
        self.rng.seed(f"{self.seed} {symbol} {number}")
        hit = self.rng.random() < self.probability
        self.fired += hit
        return hit

    def draw_delay_us(self) -> int:
        """How much later it comes: from a twentieth of `delay_s` to all of it."""
        return round(self.rng.uniform(0.05, 1) * self.delay_s * 1_000_000)

    def draw_correction(self, price: int, size: int) -> tuple[int, int]:
        """What the print should have been: off by up to two percent, by whole cents and shares."""
        cents = max(1, round(price / 100 * self.rng.uniform(0.98, 1.02)))
        return cents * 100, max(1, round(size * self.rng.uniform(0.5, 1.5)))

    def describe(self) -> dict[str, Any]:
        """The fault as `GET /sandbox/faults` shows it."""
        return {name: getattr(self, name) for name in (*_TYPES, "seen", "fired")}


_TYPES: dict[str, Callable[[Any], Any]] = {
    "kind": str,
    "exchange": str,
    "after": int,
    "at_us": int,
    "until_us": int,
    "count": int,
    "delay_s": float,
    "probability": float,
    "seed": int,
    "symbol": str,
}


def make_stock_fault(options: dict[str, Any]) -> StockFault:
    """The fault of these options, numbers as text or not; raises BadInput."""
    unknown = set(options) - set(_TYPES)
    if unknown:
        raise BadInput(f"a fault of stocks has no {', '.join(sorted(unknown))}; it has {', '.join(_TYPES)}")
    try:
        return StockFault(**{name: _TYPES[name](value) for name, value in options.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise BadInput(f"fault {options}: {error}") from error


def take_stock_faults(spec: str) -> tuple[list[StockFault], str]:
    """The faults of stocks in `--faults`, and the others as they were written; raises BadInput."""
    found, others = [], []
    for part in filter(None, (piece.strip() for piece in spec.split(";"))):
        kind, _, options = part.partition(":")
        if kind.strip() not in STOCK_KINDS:
            others.append(part)
            continue
        pairs = (option.partition("=") for option in options.split(",") if option)
        named = {name.strip(): value.strip() for name, _, value in pairs}
        found.append(make_stock_fault({"kind": kind.strip(), **named}))
    return found, ";".join(others)
