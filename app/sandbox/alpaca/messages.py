"""What happens on the stock market, in Alpaca's words."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from app.sandbox.stocks.amendments import Amendment, Kind
from app.sandbox.stocks.conditions import unpack
from app.sandbox.stocks.listing import Listing
from app.sandbox.stocks.prints import CANCELED, CORRECTED, INCORRECT, PRICE_UNIT, Print
from app.sandbox.stocks.truth import vwap
from app.sandbox.truth import TrueBar
from app.wire import alpaca as wire
from app.wire.alpaca_values import BarRow, Cancel, Correction, Quote, Side
from app.wire.alpaca_values import Print as WirePrint

type Message = dict[str, Any]

NEW_YORK = ZoneInfo("America/New_York")
DAY_MS = 86_400_000
UPDATES = {CANCELED: "canceled", INCORRECT: "incorrect", CORRECTED: "corrected"}
_PRICE_E8, _SIZE_E8 = 10**8 // PRICE_UNIT, 10**8


def wire_print(listing: Listing, row: Print, *, feed: str = "sip") -> WirePrint:
    """The print as Alpaca's value; its feed `iex` knows of one exchange only."""
    venue = "V" if feed == "iex" else chr(row.venue)
    price, size, conditions = row.price * _PRICE_E8, row.size * _SIZE_E8, unpack(row.conditions)
    return WirePrint(listing.symbol, row.time_us, row.id, venue, price, size, conditions, listing.tape)


def wire_bar(symbol: str, bar: TrueBar, *, daily: bool = False) -> BarRow:
    """The bar as Alpaca's value; a daily one is labelled with New York's midnight."""
    opens, high, low, close = (price / 10**8 for price in (bar.open, bar.high, bar.low, bar.close))
    time_ms = midnight_ms(bar.time_ms) if daily else bar.time_ms
    volume, average = Decimal(bar.volume // _SIZE_E8), Decimal(repr(vwap(bar)))
    return BarRow(symbol, time_ms, opens, high, low, close, volume, average, bar.trades)


@lru_cache(maxsize=2048)
def midnight_ms(date_ms: int) -> int:
    """New York's midnight of the date that is 00:00 UTC at `date_ms`."""
    date = datetime.fromtimestamp(date_ms / 1000, UTC)
    return round(date.replace(tzinfo=NEW_YORK).timestamp() * 1000)


def print_row(listing: Listing, row: Print, *, feed: str) -> Message:
    """The row of REST for a print; `u` says what became of it."""
    message = wire.build_print_row(wire_print(listing, row, feed=feed))
    return {**message, "u": UPDATES[row.mark]} if row.mark in UPDATES else message


def amendment_message(listing: Listing, item: Amendment, *, feed: str = "sip") -> Message | None:
    """The `c` or `x` message of an amendment, under the time it is told; None where it is a print of its own.

    It names the exchange as the feed's print did.
    """
    if item.before is None or item.kind not in (Kind.CANCEL, Kind.CORRECT):
        return None
    old = wire_print(listing, item.before, feed=feed)
    if item.after is None:
        return wire.build_cancel(
            Cancel(old.symbol, item.at_us, old.id, old.exchange, old.price_e8, old.size_e8, "C", old.tape)
        )
    new = wire_print(listing, item.after, feed=feed)
    wrong, right = (Side(one.id, one.price_e8, one.size_e8, one.conditions) for one in (old, new))
    return wire.build_correction(Correction(old.symbol, item.at_us, old.exchange, wrong, right, old.tape))


def quote_message(listing: Listing, row: Print) -> Message:
    """A quote around a print: a cent or two on either side, one to eight round lots."""
    below, above = 1 + row.id % 2, 1 + row.id // 2 % 2
    bid, ask = (row.price + cents * 100 for cents in (-below, above))
    quote = Quote(
        listing.symbol,
        row.time_us,
        "V",
        max(bid, 100) / PRICE_UNIT,
        100 * (1 + row.id % 8),
        "V",
        ask / PRICE_UNIT,
        100 * (1 + row.id // 8 % 8),
        ("R",),
        listing.tape,
    )
    return wire.build_quote(quote)
