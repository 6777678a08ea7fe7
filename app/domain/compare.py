"""When two bars are equal: the one function that says so, for verification, tests and oracles (DESIGN.md section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Protocol

from app.domain.decimals import to_places


class Comparable(Protocol):
    """What bars of ours and of the exchange have in common."""

    @property
    def open(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def volume(self) -> Decimal: ...
    @property
    def quote_volume(self) -> Decimal: ...
    @property
    def taker_buy_volume(self) -> Decimal: ...
    @property
    def trade_count(self) -> int: ...


def differing(ours: Comparable, theirs: Comparable, fields: Iterable[str]) -> list[str]:
    """The names of the fields in which the bars differ; prices and counts exactly, sums to 8 places.

    `fields` are those the exchange tells of (ExchangeRules.compared).
    """
    return [name for name in fields if _told(getattr(ours, name)) != _told(getattr(theirs, name))]


def _told(value: Any) -> Any:
    return to_places(value) if isinstance(value, Decimal) else value
