"""Prints: the trades of a stock as columns, with what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.sandbox.tape import Ints

PRICE_UNIT = 10_000  # prices are counted in 1e-4 of the currency, sizes in whole shares
VALID, CANCELED, INCORRECT, CORRECTED = range(4)


class Print(NamedTuple):
    """One trade; `conditions` are packed, `venue` is a letter's code, `mark` what became of it."""

    time_us: int
    id: int
    price: int
    size: int
    conditions: int
    venue: int
    mark: int = VALID


@dataclass(frozen=True, slots=True)
class Prints:
    """Prints in the order of their times."""

    time_us: Ints
    id: Ints
    price: Ints
    size: Ints
    conditions: Ints
    venue: Ints
    mark: Ints

    def cut(self, lo: int, hi: int | None = None) -> Prints:
        """The rows lo..hi as views."""
        return Prints(*(column[lo:hi] for column in self.columns()))

    def window(self, lo_us: int, hi_us: int) -> Prints:
        """The rows with lo_us <= time < hi_us."""
        lo, hi = np.searchsorted(self.time_us, (lo_us, hi_us))
        return self.cut(int(lo), int(hi))

    def columns(self) -> tuple[Ints, ...]:
        """All columns, in the order of Print's fields."""
        return (self.time_us, self.id, self.price, self.size, self.conditions, self.venue, self.mark)

    def rows(self) -> Iterator[Print]:
        """The prints one by one, as Python numbers."""
        return map(Print._make, zip(*(column.tolist() for column in self.columns()), strict=True))

    def __len__(self) -> int:
        """How many prints these are."""
        return len(self.id)


def prints_of(rows: Sequence[Print]) -> Prints:
    """The rows as columns."""
    return Prints(*np.array(rows, np.int64).reshape(-1, len(Print._fields)).T.copy())


def join(parts: Sequence[Prints]) -> Prints:
    """The parts behind each other."""
    filled = [part for part in parts if len(part)]
    if len(filled) <= 1:
        return filled[0] if filled else prints_of([])
    return Prints(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in filled), strict=True)))
