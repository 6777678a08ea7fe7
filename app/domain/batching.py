"""Cutting trades into batches that fit: at most so many trades, and sizes that share one decimal scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.domain.trades import Trade, TradeBatch
from app.errors import WireError


def batches_of(trades: Sequence[Trade], most: int) -> Iterator[TradeBatch]:
    """The trades, in their order, as batches of at most `most`; raises WireError for a number over 62 bits.

    Sizes too far apart for one scale (TradeBatch.size_scale) part their batch in two.
    """
    for start in range(0, len(trades), most):
        yield from _fitting(trades[start : start + most])


def _fitting(trades: Sequence[Trade]) -> Iterator[TradeBatch]:
    try:
        batch = TradeBatch.of(trades)
    except WireError:
        if len(trades) == 1:
            raise
        half = len(trades) // 2
        yield from _fitting(trades[:half])
        yield from _fitting(trades[half:])
    else:
        yield batch
