"""Tapes: where the market's trades come from, generated or recorded, as columns of raw trades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
FAR_US = 2**62


@dataclass(frozen=True, slots=True)
class Spec:
    """What a symbol is: its names and its decimals."""

    base: str
    quote: str
    price_decimals: int
    size_decimals: int

    @property
    def symbol(self) -> str:
        """The canonical symbol: BTC/USDT."""
        return f"{self.base}/{self.quote}"

    @property
    def wire(self) -> str:
        """The exchange's name of it: BTCUSDT."""
        return self.base + self.quote


class Row(NamedTuple):
    """One raw trade; price and size in 1e-8 units, `maker` is true where the buyer is the maker."""

    time_us: int
    id: int
    agg: int
    price: int
    size: int
    maker: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """Raw trades in id order, which is time order; `agg` is the aggregate trade each belongs to."""

    time_us: Ints
    id: Ints
    agg: Ints
    price: Ints
    size: Ints
    maker: NDArray[np.bool_]

    def cut(self, lo: int, hi: int | None = None) -> Columns:
        """The rows lo..hi as views."""
        rows = slice(lo, hi)
        return Columns(
            self.time_us[rows], self.id[rows], self.agg[rows], self.price[rows], self.size[rows], self.maker[rows]
        )

    def window(self, lo_us: int, hi_us: int) -> Columns:
        """The rows with lo_us <= time < hi_us."""
        lo, hi = np.searchsorted(self.time_us, (lo_us, hi_us))
        return self.cut(int(lo), int(hi))

    def rows(self) -> Iterator[Row]:
        """The trades one by one, as Python numbers."""
        columns = (self.time_us, self.id, self.agg, self.price, self.size, self.maker)
        return map(Row._make, zip(*(column.tolist() for column in columns), strict=True))

    def __len__(self) -> int:
        """How many trades these are."""
        return len(self.id)

    def with_rows(self, places: Ints, rows: Sequence[Row]) -> Columns:
        """These trades with others among them, each before the row of its place."""
        time_us, ids, agg, price, size, maker = zip(*rows, strict=True)
        return Columns(
            np.insert(self.time_us, places, time_us),
            np.insert(self.id, places, ids),
            np.insert(self.agg, places, agg),
            np.insert(self.price, places, price),
            np.insert(self.size, places, size),
            np.insert(self.maker, places, maker),
        )


def columns_of(rows: Sequence[Row]) -> Columns:
    """The rows as columns."""
    ints = np.array([row[:5] for row in rows], np.int64).reshape(-1, 5).T.copy()
    return Columns(ints[0], ints[1], ints[2], ints[3], ints[4], np.array([row.maker for row in rows], np.bool_))


def join(parts: Sequence[Columns]) -> Columns:
    """The parts behind each other."""
    filled = [part for part in parts if len(part)]
    if len(filled) <= 1:
        return filled[0] if filled else columns_of([])
    return Columns(
        np.concatenate([part.time_us for part in filled]),
        np.concatenate([part.id for part in filled]),
        np.concatenate([part.agg for part in filled]),
        np.concatenate([part.price for part in filled]),
        np.concatenate([part.size for part in filled]),
        np.concatenate([part.maker for part in filled]),
    )


class Tape(Protocol):
    """All trades of one symbol, past and future, in blocks computed on demand."""

    @property
    def spec(self) -> Spec:
        """The symbol's names and decimals."""

    def block(self, time_us: int) -> tuple[Columns, int, int]:
        """The trades of the block that holds `time_us`, the block's start and its end (exclusive)."""

    def floor_us(self, trade_id: int) -> int:
        """A time at or before that of trade `trade_id`, and near it."""

    def last_ids(self, time_us: int) -> tuple[int, int]:
        """The numbers of the last raw and the last aggregate trade at or before `time_us`; 0, 0 before the first."""

    def first_id(self, agg: int) -> int:
        """The first raw trade of aggregate trade `agg`, or one before it."""
