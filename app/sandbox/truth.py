"""The true bars, in exact integers: written apart from the platform's own arithmetic, which is measured by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import mul
from typing import Any, NamedTuple

from app.sandbox.tape import Columns

MINUTE_MS = 60_000


class TrueBar(NamedTuple):
    """A bar; prices and base sums in 1e-8, quote sums in 1e-16, ids -1 where nobody traded."""

    time_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    taker: int
    taker_quote: int
    trades: int
    first_id: int
    last_id: int


def minute_bars(trades: Columns, start_ms: int, end_ms: int, *, close: int | None) -> list[TrueBar]:
    """The bars of each minute of [start, end), flat ones for quiet minutes once a price is known.

    `trades` are those of just that stretch in id order; `close` is the price of the last trade before it, if any.
    """
    bars: list[TrueBar] = []
    minutes = (trades.time_us // (MINUTE_MS * 1000) * MINUTE_MS).tolist()
    prices, sizes, makers, ids = (column.tolist() for column in (trades.price, trades.size, trades.maker, trades.id))
    place = 0
    for time_ms in range(start_ms, end_ms, MINUTE_MS):
        begin = place
        while place < len(minutes) and minutes[place] == time_ms:
            place += 1
        if place > begin:
            cut = slice(begin, place)
            bars.append(_bar(time_ms, prices[cut], sizes[cut], makers[cut], (ids[begin], ids[place - 1])))
            close = prices[place - 1]
        elif close is not None:
            bars.append(TrueBar(time_ms, close, close, close, close, 0, 0, 0, 0, 0, -1, -1))
    return bars


def _bar(time_ms: int, prices: list[int], sizes: list[int], makers: list[bool], ids: tuple[int, int]) -> TrueBar:
    takers = [0 if maker else size for maker, size in zip(makers, sizes, strict=True)]
    return TrueBar(
        time_ms,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(sizes),
        sum(map(mul, prices, sizes)),
        sum(takers),
        sum(map(mul, prices, takers)),
        len(prices),
        *ids,
    )


def longer_bars(minutes: Iterable[TrueBar], length_ms: int) -> list[TrueBar]:
    """The bars of `length_ms` made of consecutive minute bars; quiet minutes count only where all are quiet."""
    groups = groupby(minutes, lambda bar: bar.time_ms - bar.time_ms % length_ms)
    return [_combine(start_ms, list(group)) for start_ms, group in groups]


def _combine(start_ms: int, minutes: Sequence[TrueBar]) -> TrueBar:
    traded = [bar for bar in minutes if bar.trades]
    if not traded:
        return minutes[0]._replace(time_ms=start_ms)
    return TrueBar(
        start_ms,
        traded[0].open,
        max(bar.high for bar in traded),
        min(bar.low for bar in traded),
        traded[-1].close,
        sum(bar.volume for bar in traded),
        sum(bar.quote for bar in traded),
        sum(bar.taker for bar in traded),
        sum(bar.taker_quote for bar in traded),
        sum(bar.trades for bar in traded),
        traded[0].first_id,
        traded[-1].last_id,
    )


def exact_json(bar: TrueBar) -> dict[str, Any]:
    """The bar with every decimal written out in full."""
    return {
        "time": bar.time_ms,
        "open": _decimal(bar.open, 8),
        "high": _decimal(bar.high, 8),
        "low": _decimal(bar.low, 8),
        "close": _decimal(bar.close, 8),
        "volume": _decimal(bar.volume, 8),
        "quote_volume": _decimal(bar.quote, 16),
        "taker_buy_volume": _decimal(bar.taker, 8),
        "trade_count": bar.trades,
        "first_id": bar.first_id,
        "last_id": bar.last_id,
    }


def _decimal(units: int, places: int) -> str:
    whole, rest = divmod(units, 10**places)
    digits = f"{rest:0{places}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
