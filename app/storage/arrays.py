"""Columns as PostgreSQL array literals: unnest of literals is several times faster than a row list."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal


def literal(values: Iterable[object]) -> str:
    """`{1,2.5,NULL}` for numbers, Decimals, booleans, plain words and None; floats keep their shortest exact form."""
    return "{" + ",".join("NULL" if value is None else format_number(value) for value in values) + "}"


def numbers(values: Iterable[int | float | Decimal]) -> str:
    """The same of numbers alone, in half the time: `inf` is read, too."""
    return f"{{{','.join(map(str, values))}}}"


def format_number(value: object) -> str:
    """The number as PostgreSQL reads it back exactly."""
    if isinstance(value, float):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(text := repr(value), text)
    return str(value)
