"""Pages of bars and trades: by symbol, then by time, as many as fit, and where the next one begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from app.sandbox.alpaca.messages import midnight_ms, print_row, wire_bar
from app.sandbox.alpaca.params import DAY_MS, MINUTE_MS, Query, Token
from app.sandbox.market import Market
from app.sandbox.stocks.hours import DAY_US, MINUTE_US
from app.wire import alpaca as wire

BAR_STEP_US, DAILY_STEP_US, TRADE_STEP_US = 4 * DAY_US, 10 * DAY_US, 60 * MINUTE_US


class Item(NamedTuple):
    """One row with the place it has in its series: time (µs) and, of trades, id."""

    time_us: int
    number: int
    row: dict[str, Any]


type Load = Callable[[int, int], list[Item]]


class Page(NamedTuple):
    """The rows by symbol, and the token of the next page."""

    rows: dict[str, list[dict[str, Any]]]
    next_token: str | None


async def bars_page(market: Market, query: Query, length_ms: int, *, now_us: int) -> Page:
    """The complete bars; minutes outside the session are among them, as Alpaca has them."""
    daily = length_ms == DAY_MS

    def loader(symbol: str) -> Load:
        def load(lo_us: int, hi_us: int) -> list[Item]:
            # A day's label, New York's midnight, is some hours after the date's.
            lo_ms, hi_ms = (lo_us - DAY_US) // 1000 if daily else -(-lo_us // 1000), -(-hi_us // 1000)
            span = {"start_ms": lo_ms, "end_ms": hi_ms, "now_us": now_us}
            found = []
            for bar in market.stocks.closed(symbol, length_ms, **span, extended=True):
                at_us = (midnight_ms(bar.time_ms) if daily else bar.time_ms) * 1000
                if lo_us <= at_us < hi_us:
                    found.append(Item(at_us, 0, wire.build_bar_row(wire_bar(symbol, bar, daily=daily))))
            return found

        return load

    step_us = DAILY_STEP_US if daily else max(BAR_STEP_US, length_ms // MINUTE_MS * MINUTE_US)
    return await _page(market, query, loader, step_us)


async def trades_page(market: Market, query: Query, *, now_us: int) -> Page:
    """The prints; `u` marks those that were canceled or corrected."""

    def loader(symbol: str) -> Load:
        listing = market.stocks.series[symbol].listing

        def load(lo_us: int, hi_us: int) -> list[Item]:
            prints = market.stocks.prints(symbol, lo_us, hi_us, now_us=now_us)
            return [Item(row.time_us, row.id, print_row(listing, row, feed=query.feed)) for row in prints.rows()]

        return load

    return await _page(market, query, loader, TRADE_STEP_US)


async def _page(market: Market, query: Query, loader: Callable[[str], Load], step_us: int) -> Page:
    rows: dict[str, list[dict[str, Any]]] = {}
    left, last = query.limit, query.token
    for symbol in query.symbols:
        series = market.stocks.series.get(symbol)
        if series is None or symbol.endswith(".IS") or (query.token and symbol < query.token.symbol):
            continue
        oldest_us = min(series.oldest_us, series.oldest_day_us)
        async for item in _items(query, loader(symbol), symbol, oldest_us=oldest_us, step_us=step_us):
            if not left:
                return Page(rows, last.text() if last else None)
            rows.setdefault(symbol, []).append(item.row)
            left, last = left - 1, Token(symbol, item.time_us, item.number)
    return Page(rows, None)


async def _items(query: Query, load: Load, symbol: str, *, oldest_us: int, step_us: int) -> AsyncIterator[Item]:
    """The rows of one symbol behind the token, piece by piece; other work goes on between."""
    lo_us, hi_us = max(query.start_us, oldest_us), query.end_us + 1
    token = query.token if query.token and query.token.symbol == symbol else None
    if token is not None:
        lo_us, hi_us = (lo_us, token.time_us + 1) if query.descending else (token.time_us, hi_us)
    pieces = range(lo_us, hi_us, step_us)
    for at_us in reversed(pieces) if query.descending else pieces:
        items = load(at_us, min(at_us + step_us, hi_us))
        for item in reversed(items) if query.descending else items:
            place = item.time_us, item.number
            if token is None or (place < token[1:] if query.descending else place > token[1:]):
                yield item
        await asyncio.sleep(0)
