"""Binance spot's streams on the wire: `parse_*` for the clients, `build_*` for the simulated market.

Format: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams. Times are milliseconds, or
microseconds where a client asked for them (`timeUnit=MICROSECOND`): told apart by their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import orjson

from app.domain.official import OfficialBar
from app.domain.timeframes import Timeframe
from app.domain.trades import Trade, e8
from app.errors import WireError

UNIT = 10**8
_MICROSECONDS = 10**14  # a number of ms this large would be in the year 5138

STREAM_TIMEFRAMES = {f"kline_{timeframe.value}": timeframe for timeframe in Timeframe}


class TradeEvent(NamedTuple):
    """One trade of the stream and the exchange's clock when it was sent."""

    trade: Trade
    event_us: int


class KlineEvent(NamedTuple):
    """The exchange's own bar, unfinished or closed."""

    bar: OfficialBar
    closed: bool
    event_us: int


class Shutdown(NamedTuple):
    """The server says that it ends soon, some minutes ahead: time for a new connection."""

    event_us: int


class Ack(NamedTuple):
    """The answer to a request of ours; `result` is null for SUBSCRIBE, a list for LIST_SUBSCRIPTIONS."""

    id: Any
    result: Any


class Refusal(NamedTuple):
    """The exchange refused a request of ours."""

    id: Any
    code: int
    message: str


class Other(NamedTuple):
    """An event we do not use: of a symbol nobody asked for, or of another kind."""

    kind: str
    symbol: str
    event_us: int


type Event = TradeEvent | KlineEvent | Shutdown | Ack | Refusal | Other


def trade_stream(wire_symbol: str) -> str:
    """The stream's name of the symbol's trades: btcusdt@trade."""
    return f"{wire_symbol.lower()}@trade"


def kline_stream(wire_symbol: str, timeframe: Timeframe) -> str:
    """The stream's name of the symbol's bars: btcusdt@kline_1m."""
    return f"{wire_symbol.lower()}@kline_{timeframe.value}"


def unfinished(frame: bytes) -> bool:
    """Whether the frame is a kline that goes on, told by its bytes: these are most frames of a market and none is used.

    What it does not recognise is left to parse_stream.
    """
    return frame.find(b'"kline"', 0, 96) > 0 and frame.find(b'"x":false', 128) > 0


def parse_stream(frame: bytes | str, ids: Mapping[str, int]) -> Event:
    """The event in a frame of `/ws` or `/stream`; `ids` maps wire symbols (BTCUSDT) to instrument ids.

    Raises WireError for anything that is not what the exchange documents.
    """
    try:
        body = orjson.loads(frame)
        body = body.get("data", body)
        kind = body.get("e")
        if kind == "trade":
            instrument_id = ids.get(body["s"])
            if instrument_id is None:
                return Other("trade", body["s"], micros(body["E"]))
            number = body["t"]
            return TradeEvent(
                Trade(instrument_id, micros(body["T"]), number, number, e8(body["p"]), e8(body["q"]), not body["m"]),
                micros(body["E"]),
            )
        return _parse_other(body, kind, ids)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise WireError(f"Binance sent what it does not document ({error}): {_shorten(frame)}") from error


def _parse_other(body: dict[str, Any], kind: str | None, ids: Mapping[str, int]) -> Event:
    if kind == "kline":
        return _parse_kline_event(body, ids)
    if kind == "serverShutdown":
        return Shutdown(micros(body["E"]))
    if kind is not None:
        return Other(str(kind), str(body.get("s", "")), micros(body["E"]) if "E" in body else 0)
    if "error" in body:
        return Refusal(body.get("id"), int(body["error"]["code"]), str(body["error"]["msg"]))
    if "code" in body and "msg" in body:
        return Refusal(body.get("id"), int(body["code"]), str(body["msg"]))
    if "result" in body:
        return Ack(body.get("id"), body["result"])
    raise ValueError("neither an event nor an answer")


def _parse_kline_event(body: dict[str, Any], ids: Mapping[str, int]) -> KlineEvent | Other:
    kline, event_us = body["k"], micros(body["E"])
    instrument_id = ids.get(body["s"])
    timeframe = STREAM_TIMEFRAMES.get(f"kline_{kline['i']}")
    if instrument_id is None or timeframe is None:
        return Other("kline", body["s"], event_us)
    if not isinstance(kline["x"], bool):
        raise ValueError(f"a kline that is {kline['x']!r}")
    count, first_id, last_id = int(kline["n"]), int(kline["f"]), int(kline["L"])
    ids_known = count > 0 and 0 <= first_id <= last_id  # a quiet minute has -1
    bar = OfficialBar(
        instrument_id,
        timeframe,
        micros(kline["t"]) // 1000,
        _price(kline["o"]),
        _price(kline["h"]),
        _price(kline["l"]),
        _price(kline["c"]),
        _sum(kline["v"]),
        _sum(kline["q"]),
        _sum(kline["V"]),
        count,
        first_id if ids_known else None,
        last_id if ids_known else None,
    )
    return KlineEvent(bar, kline["x"], event_us)


def _price(text: str) -> float:
    return e8(text) / UNIT  # rounds correctly: the double that prints these decimals


def _sum(text: str) -> Decimal:
    return Decimal(e8(text)).scaleb(-8)


def build_subscribe(streams: Iterable[str], id: int) -> str:
    """The request that adds `streams` to a connection."""
    return orjson.dumps({"method": "SUBSCRIBE", "params": list(streams), "id": id}).decode()


def build_unsubscribe(streams: Iterable[str], id: int) -> str:
    """The request that removes `streams` from a connection."""
    return orjson.dumps({"method": "UNSUBSCRIBE", "params": list(streams), "id": id}).decode()


class WireKline(NamedTuple):
    """What a kline says, in wire units: prices and base sums 1e-8, quote sums 1e-16, times ms; ids -1 when flat."""

    symbol: str
    interval: str
    open_ms: int
    close_ms: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_e16: int
    taker_e8: int
    taker_quote_e16: int
    trades: int
    first_id: int
    last_id: int


def build_trade_event(wire_symbol: str, trade: Trade, *, event_ms: int) -> bytes:
    """The `trade` event of a raw trade."""
    return b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%b","q":"%b","T":%d,"m":%b,"M":true}' % (
        event_ms,
        wire_symbol.encode(),
        trade.first,
        text_e8(trade.price_e8).encode(),
        text_e8(trade.size_e8).encode(),
        trade.time_us // 1000,
        b"false" if trade.taker_buy else b"true",
    )


def build_kline_event(kline: WireKline, *, event_ms: int, closed: bool) -> bytes:
    """The `kline` event of a bar."""
    body = {
        "t": kline.open_ms,
        "T": kline.close_ms,
        "s": kline.symbol,
        "i": kline.interval,
        "f": kline.first_id,
        "L": kline.last_id,
        "o": text_e8(kline.open_e8),
        "c": text_e8(kline.close_e8),
        "h": text_e8(kline.high_e8),
        "l": text_e8(kline.low_e8),
        "v": text_e8(kline.volume_e8),
        "n": kline.trades,
        "x": closed,
        "q": text_e16(kline.quote_e16),
        "V": text_e8(kline.taker_e8),
        "Q": text_e16(kline.taker_quote_e16),
        "B": "0",
    }
    return orjson.dumps({"e": "kline", "E": event_ms, "s": kline.symbol, "k": body})


def build_shutdown(*, event_ms: int) -> bytes:
    """The `serverShutdown` event."""
    return b'{"e":"serverShutdown","E":%d}' % event_ms


def text_e8(units: int) -> str:
    """The 8-place decimal of `units` × 1e-8, as Binance prints every number."""
    return f"{units // UNIT}.{units % UNIT:08d}"


def text_e16(units: int) -> str:
    """The 8-place decimal of `units` × 1e-16, rounded half to even."""
    whole, rest = divmod(units, UNIT)
    half = UNIT // 2
    return text_e8(whole + (rest > half or (rest == half and whole % 2 == 1)))


def micros(time: int) -> int:
    """A time of the exchange in µs."""
    return time if time > _MICROSECONDS else time * 1000


def _shorten(frame: bytes | str) -> str:
    text = frame.decode("utf-8", "replace") if isinstance(frame, bytes) else frame
    return text if len(text) <= 200 else text[:200] + "…"
