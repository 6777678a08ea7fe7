"""Binance's klines as columns: a page of `GET /api/v3/klines`, or lines of a bulk file, without an object a bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from app.domain.bar_columns import BarColumns
from app.errors import WireError

COLUMNS = 12
_MICROSECONDS = 10**14  # a number of ms this large would be in the year 5138
_PLAIN = b"0123456789.,"  # what is of these and a float is a decimal without sign, exponent or blank
_LIMIT = 1e30


def parse_columns(rows: Sequence[Sequence[Any]], instrument_id: int) -> BarColumns:
    """The bars of a klines answer, oldest first (the newest may be unfinished); raises WireError.

    Times are ms or µs, prices and sums plain decimal text; the ids of the trades are not told.
    """
    if not rows:
        return BarColumns.of(instrument_id, [])
    try:
        start, open_, high, low, close, volume, end, quote, count, taker, *_ = zip(*rows, strict=True)
        amounts = (open_, high, low, close, volume, quote, taker)
        _check_amounts(list(chain(*amounts)))
        if set(map(type, chain(start, end, count))) != {int} or min(chain(start, end, count)) < 0:
            raise ValueError("a time or count is no whole number")
        if list(start) != sorted(set(start)):
            raise ValueError("their times do not rise")
    except (TypeError, ValueError) as error:
        raise WireError(f"Binance sent klines that it does not document ({error})") from error
    starts, ends = _us(start, 0), _us(end, 999)  # a close time in ms is the last ms of the bar: up to its last µs
    none = [0] * len(rows)
    return BarColumns(
        instrument_id, [us // 1000 for us in starts], list(open_), list(high), list(low), list(close), list(volume),
        list(quote), list(taker), list(count), starts, none, ends, none,
    )  # fmt: skip


def _check_amounts(texts: list[str]) -> None:
    """Raises ValueError or TypeError unless all are plain decimals: digits, and a point at most."""
    odd = ",".join(texts).encode().translate(None, _PLAIN)
    if odd or max(map(float, texts)) >= _LIMIT:
        raise ValueError("a price or sum is no plain decimal")


def _us(times: Sequence[int], last_us: int) -> list[int]:
    return [time if time > _MICROSECONDS else time * 1000 + last_us for time in times]
