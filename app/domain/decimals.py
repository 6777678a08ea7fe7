"""Sums to the exchange's own decimals."""

from __future__ import annotations

from decimal import Context, Decimal

PLACES = 8
_UNIT = Decimal(1).scaleb(-PLACES)
_WIDE = Context(prec=60)  # the usual 28 digits end at 10^20 units of a coin


def to_places(value: Decimal) -> Decimal:
    """The value rounded to PLACES decimals, half to even, however large it is."""
    return value.quantize(_UNIT, context=_WIDE)
