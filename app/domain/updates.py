"""Chart updates: the JSON that workers publish and the web forwards; one shape for REST, pub/sub and WebSocket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.domain.bars import Bar, Origin, State
from app.domain.decimals import to_places

VERSION = 1  # of the messages on chart_updates and completed_bars; more fields do not raise it

STATE_NAMES = {State.OPEN: "open", State.CLOSED: "closed", State.VERIFIED: "verified"}
ORIGIN_NAMES = {Origin.TRADES: "trades", Origin.EXCHANGE: "exchange", Origin.ROLLUP: "rollup", Origin.FLAT: "flat"}


class Order(NamedTuple):
    """First and last trade of a bar as (time_us, seq) pairs: what tells whether a roll-up holds a minute already."""

    open_time: int
    open_seq: int
    close_time: int
    close_seq: int


def readable(message: Mapping[str, Any]) -> bool:
    """Whether this program knows the message's version; one without any is the first."""
    return int(message.get("v", 1)) <= VERSION


def bar_json(bar: Bar, *, delayed: bool = False) -> dict[str, Any]:
    """The bar as REST and WebSocket show it; time in ms, sums as numbers rounded to 8 places.

    `delayed` marks the bars of a source that is behind its market (ExchangeRules.delay_s).
    """
    shown: dict[str, Any] = {
        "time": bar.time_ms,
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": float(to_places(bar.volume)),
        "quote_volume": float(to_places(bar.quote_volume)),
        "trade_count": bar.trade_count,
        "state": STATE_NAMES[bar.state],
        "completed": bar.state is not State.OPEN,
        "revision": bar.revision,
        "origin": ORIGIN_NAMES[bar.origin],
    }
    if delayed:
        shown["delayed"] = True
    return shown


def order_json(bar: Bar) -> list[int]:
    """The bar's first and last trade, carried beside bar_json in pub/sub messages as "order"."""
    return list(Order(bar.open_time, bar.open_seq, bar.close_time, bar.close_seq))
