"""Alpaca's stock data on the wire: `parse_*` for the clients, `build_*` for the simulated market. Maps in, values out.

Formats: https://docs.alpaca.markets/docs/real-time-stock-pricing-data (the stream: arrays of maps in msgpack, times as
its Timestamp) and …/reference/stockbars (REST: the same maps in JSON, times as RFC 3339 text with nanoseconds). Numbers
are floats: the shortest decimal that reads back as the float is the exchange's own, so nothing is lost. Times are kept
in µs, as everywhere in the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgpack

from app.domain.timeframes import DAY_MS
from app.errors import WireError
from app.wire import numbers
from app.wire.alpaca_values import (
    Asset,
    BarEvent,
    BarRow,
    Cancel,
    Correction,
    Message,
    Other,
    Print,
    Quote,
    Refusal,
    Side,
    Status,
    Subscription,
    Success,
)

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses")  # to be subscribed
IMPLIED = ("corrections", "cancelErrors")  # come with trades

# The error codes of the stream that asking again does not cure.
AUTH_FAILED, SYMBOL_LIMIT, CONNECTION_LIMIT, NO_SUBSCRIPTION = 402, 405, 406, 409

type RawMessage = dict[str, Any]

# What a map that is not as documented makes the readers below raise.
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


def parse_frame(frame: bytes) -> list[RawMessage]:
    """The maps in a frame of the stream; raises WireError."""
    try:
        body = msgpack.unpackb(frame)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"Alpaca sent what is not msgpack ({type(error).__name__})") from error
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise WireError("Alpaca sent a frame that is no array of maps")
    return body


def parse_message(raw: Any) -> Message:
    """The value of one map of the stream; raises WireError for what is not documented."""
    try:
        kind = raw["T"]
        parse = _PARSERS.get(kind)
        return parse(raw) if parse else Other(str(kind))
    except _BROKEN as error:
        raise WireError(f"Alpaca sent what it does not document ({error!r}): {repr(raw)[:200]}") from error


def parse_bar_rows(symbol: str, rows: Iterable[Any], *, daily: bool = False) -> list[BarRow]:
    """The bars of `GET /v2/stocks/bars` for one symbol, in its order; raises WireError.

    A daily bar is labelled with New York's midnight: its time becomes that date at 00:00 UTC.
    """
    try:
        found = [_bar(row, symbol) for row in rows]
    except _BROKEN as error:
        raise WireError(f"Alpaca sent bars that it does not document ({error!r})") from error
    return [bar._replace(time_ms=bar.time_ms // DAY_MS * DAY_MS) for bar in found] if daily else found


def parse_print_rows(symbol: str, rows: Iterable[Any]) -> list[Print]:
    """The trades of `GET /v2/stocks/trades` for one symbol; raises WireError."""
    try:
        return [_print({**row, "S": symbol}) for row in rows]
    except _BROKEN as error:
        raise WireError(f"Alpaca sent trades that it does not document ({error!r})") from error


def parse_asset(raw: Any) -> Asset:
    """The answer of `GET /v2/assets/{symbol}`; raises WireError."""
    try:
        name, exchange = str(raw.get("name") or ""), str(raw.get("exchange") or "")
        return Asset(numbers.text(raw["symbol"]), name, exchange, numbers.text(raw["status"]), bool(raw["tradable"]))
    except _BROKEN as error:
        raise WireError(f"Alpaca describes an asset in a form it does not document ({error!r})") from error


def _print(raw: RawMessage) -> Print:
    return Print(
        numbers.text(raw["S"]),
        numbers.time_us_of(raw["t"]),
        numbers.integer(raw["i"]),
        numbers.text(raw.get("x", "")),
        numbers.price_e8(raw["p"]),
        numbers.to_e8(raw["s"]),
        numbers.codes(raw.get("c")),
        numbers.text(raw.get("z", "")),
    )


def _quote(raw: RawMessage) -> Quote:
    return Quote(
        numbers.text(raw["S"]),
        numbers.time_us_of(raw["t"]),
        numbers.text(raw.get("bx", "")),
        numbers.plain_float(raw["bp"]),
        numbers.plain_float(raw["bs"]),
        numbers.text(raw.get("ax", "")),
        numbers.plain_float(raw["ap"]),
        numbers.plain_float(raw["as"]),
        numbers.codes(raw.get("c")),
        numbers.text(raw.get("z", "")),
    )


def _bar(raw: RawMessage, symbol: str) -> BarRow:
    first, high, low, last = (numbers.plain_float(raw[field]) for field in "ohlc")
    volume, vwap = numbers.exact(raw["v"]), numbers.exact(raw.get("vw", 0))
    bar = BarRow(
        symbol, numbers.time_us_of(raw["t"]) // 1000, first, high, low, last, volume, vwap, numbers.integer(raw["n"])
    )
    if not (0 < bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high):
        raise ValueError("prices of a bar contradict each other")
    return bar


def _bar_event(raw: RawMessage) -> BarEvent:
    return BarEvent(raw["T"], _bar(raw, numbers.text(raw["S"])))


def _correction(raw: RawMessage) -> Correction:
    def side(letter: str) -> Side:
        number, price, size, conditions = (raw.get(letter + field) for field in "ipsc")
        return Side(numbers.integer(number), numbers.price_e8(price), numbers.to_e8(size), numbers.codes(conditions))

    return Correction(
        numbers.text(raw["S"]), numbers.time_us_of(raw["t"]), raw.get("x", ""), side("o"), side("c"), raw.get("z", "")
    )


def _cancel(raw: RawMessage) -> Cancel:
    trade = _print(raw)
    return Cancel(*trade[:6], action=numbers.text(raw.get("a", "")), tape=trade.tape)


def _status(raw: RawMessage) -> Status:
    words = [str(raw.get(field) or "") for field in ("sc", "sm", "rc", "rm", "z")]
    return Status(numbers.text(raw["S"]), numbers.time_us_of(raw["t"]), *words)


def _subscription(raw: RawMessage) -> Subscription:
    return Subscription({name: tuple(map(numbers.text, raw.get(name) or ())) for name in (*CHANNELS, *IMPLIED)})


_PARSERS: Mapping[Any, Callable[[RawMessage], Message]] = {
    "t": _print,
    "q": _quote,
    "b": _bar_event,
    "u": _bar_event,
    "d": _bar_event,
    "c": _correction,
    "x": _cancel,
    "s": _status,
    "success": lambda raw: Success(numbers.text(raw["msg"])),
    "error": lambda raw: Refusal(numbers.integer(raw["code"]), numbers.text(raw["msg"])),
    "subscription": _subscription,
}


def build_request(action: str, symbols: Sequence[str], channels: Iterable[str] = CHANNELS) -> bytes:
    """A client's `subscribe` or `unsubscribe` of symbols on channels, as a frame."""
    packed: bytes = msgpack.packb({"action": action, **{name: list(symbols) for name in channels}})
    return packed


def build_frame(messages: Sequence[RawMessage]) -> bytes:
    """The messages as one binary frame of the stream."""
    packed: bytes = msgpack.packb(list(messages))
    return packed


def build_print(trade: Print) -> RawMessage:
    """The `t` message of a trade."""
    return {"T": "t", "S": trade.symbol, **_print_fields(trade), "t": numbers.stamp(trade.time_us)}


def build_print_row(trade: Print) -> RawMessage:
    """The row of `GET /v2/stocks/trades` for a trade."""
    return {**_print_fields(trade), "t": numbers.rfc3339(trade.time_us)}


def _print_fields(trade: Print) -> RawMessage:
    return {
        "i": trade.id,
        "x": trade.exchange,
        "p": numbers.from_e8(trade.price_e8),
        "s": numbers.size_from_e8(trade.size_e8),
        "c": list(trade.conditions),
        "z": trade.tape,
    }


def build_quote(quote: Quote) -> RawMessage:
    """The `q` message of a quote."""
    return {
        "T": "q", "S": quote.symbol, "bx": quote.bid_exchange, "bp": quote.bid, "bs": numbers.whole(quote.bid_size),
        "ax": quote.ask_exchange, "ap": quote.ask, "as": numbers.whole(quote.ask_size), "c": list(quote.conditions),
        "z": quote.tape, "t": numbers.stamp(quote.time_us),
    }  # fmt: skip


def build_bar(bar: BarRow, kind: str = "b") -> RawMessage:
    """The `b`, `u` or `d` message of a bar."""
    return {"T": kind, "S": bar.symbol, **_bar_fields(bar), "t": numbers.stamp(bar.time_ms * 1000)}


def build_bar_row(bar: BarRow) -> RawMessage:
    """The row of `GET /v2/stocks/bars` for a bar; a daily bar's `time_ms` is New York's midnight here."""
    return {**_bar_fields(bar), "t": numbers.rfc3339(bar.time_ms * 1000)}


def _bar_fields(bar: BarRow) -> RawMessage:
    return {
        "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": numbers.whole(float(bar.volume)),
        "n": bar.trade_count, "vw": float(bar.vwap),
    }  # fmt: skip


def build_correction(item: Correction) -> RawMessage:
    """The `c` message of a correction."""

    def side(letter: str, value: Side) -> RawMessage:
        return {
            f"{letter}i": value.id, f"{letter}p": numbers.from_e8(value.price_e8),
            f"{letter}s": numbers.size_from_e8(value.size_e8), f"{letter}c": list(value.conditions),
        }  # fmt: skip

    sides = {**side("o", item.original), **side("c", item.corrected)}
    return {"T": "c", "S": item.symbol, "x": item.exchange, **sides, "z": item.tape, "t": numbers.stamp(item.time_us)}


def build_cancel(item: Cancel) -> RawMessage:
    """The `x` message of a cancel or error."""
    return {
        "T": "x", "S": item.symbol, "i": item.id, "x": item.exchange, "p": numbers.from_e8(item.price_e8),
        "s": numbers.size_from_e8(item.size_e8), "a": item.action, "z": item.tape, "t": numbers.stamp(item.time_us),
    }  # fmt: skip


def build_status(item: Status) -> RawMessage:
    """The `s` message of a trading status."""
    return {
        "T": "s", "S": item.symbol, "sc": item.code, "sm": item.message, "rc": item.reason_code, "rm": item.reason,
        "z": item.tape, "t": numbers.stamp(item.time_us),
    }  # fmt: skip


def build_success(message: str) -> RawMessage:
    """The `success` message: connected, authenticated."""
    return {"T": "success", "msg": message}


def build_error(code: int, message: str) -> RawMessage:
    """The `error` message."""
    return {"T": "error", "code": code, "msg": message}


def build_subscription(channels: Mapping[str, Iterable[str]]) -> RawMessage:
    """The `subscription` message: everything the connection listens to."""
    return {"T": "subscription", **{name: list(channels.get(name, ())) for name in (*CHANNELS, *IMPLIED)}}


def build_asset(asset: Asset) -> RawMessage:
    """The answer of `GET /v2/assets/{symbol}`."""
    return {"class": "us_equity", **asset._asdict()}
