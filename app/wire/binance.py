"""Binance spot, on the wire: `parse_*` for the clients, `build_*` for the simulated market. Bytes in, values out.

Formats: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and …/rest-api. Times are
milliseconds, or microseconds where a client asked for them (`timeUnit=MICROSECOND`): told apart by their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import orjson

from app.domain.bars import Bar, Origin, State
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
    """The exchange's own bar, unfinished or closed; ids are -1 for a minute without trades."""

    bar: Bar
    timeframe: Timeframe
    closed: bool
    first_id: int
    last_id: int
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


type Event = TradeEvent | KlineEvent | Ack | Refusal | Other


def trade_stream(wire_symbol: str) -> str:
    """The stream's name of the symbol's trades: btcusdt@trade."""
    return f"{wire_symbol.lower()}@trade"


def kline_stream(wire_symbol: str, timeframe: Timeframe) -> str:
    """The stream's name of the symbol's bars: btcusdt@kline_1m."""
    return f"{wire_symbol.lower()}@kline_{timeframe.value}"


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
                return Other("trade", body["s"], _us(body["E"]))
            number = body["t"]
            return TradeEvent(
                Trade(instrument_id, _us(body["T"]), number, number, e8(body["p"]), e8(body["q"]), not body["m"]),
                _us(body["E"]),
            )
        return _parse_other(body, kind, ids)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise WireError(f"Binance sent what it does not document ({error}): {_shorten(frame)}") from error


def _parse_other(body: dict[str, Any], kind: str | None, ids: Mapping[str, int]) -> Event:
    if kind == "kline":
        return _parse_kline_event(body, ids)
    if kind is not None:
        return Other(str(kind), str(body.get("s", "")), _us(body["E"]) if "E" in body else 0)
    if "error" in body:
        return Refusal(body.get("id"), int(body["error"]["code"]), str(body["error"]["msg"]))
    if "code" in body and "msg" in body:
        return Refusal(body.get("id"), int(body["code"]), str(body["msg"]))
    if "result" in body:
        return Ack(body.get("id"), body["result"])
    raise ValueError("neither an event nor an answer")


def _parse_kline_event(body: dict[str, Any], ids: Mapping[str, int]) -> KlineEvent | Other:
    kline, event_us = body["k"], _us(body["E"])
    instrument_id = ids.get(body["s"])
    timeframe = STREAM_TIMEFRAMES.get(f"kline_{kline['i']}")
    if instrument_id is None or timeframe is None:
        return Other("kline", body["s"], event_us)
    first_id, last_id, closed = int(kline["f"]), int(kline["L"]), bool(kline["x"])
    row = [kline[key] for key in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V")]
    bar = _parse_row(row, instrument_id, seqs=(max(first_id, 0), max(last_id, 0)), closed=closed)
    return KlineEvent(bar, timeframe, closed, first_id, last_id, event_us)


def parse_klines(rows: Iterable[Sequence[Any]], instrument_id: int) -> list[Bar]:
    """The bars of a `GET /api/v3/klines` answer, in its order (the newest may be unfinished); raises WireError."""
    try:
        return [_parse_row(row, instrument_id) for row in rows]
    except (IndexError, KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise WireError(f"Binance sent klines that it does not document ({error})") from error


def _parse_row(row: Sequence[Any], instrument_id: int, *, seqs: tuple[int, int] = (0, 0), closed: bool = True) -> Bar:
    return Bar(
        instrument_id,
        _us(row[0]) // 1000,
        float(row[1]),
        float(row[2]),
        float(row[3]),
        float(row[4]),
        Decimal(row[5]),
        Decimal(row[7]),
        Decimal(row[9]),
        int(row[8]),
        _us(row[0]),
        seqs[0],
        _end_us(row[6]),
        seqs[1],
        State.VERIFIED if closed else State.OPEN,
        0,
        Origin.EXCHANGE,
    )


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


def build_kline_row(kline: WireKline) -> list[Any]:
    """The row of `GET /api/v3/klines` for a bar."""
    return [
        kline.open_ms,
        text_e8(kline.open_e8),
        text_e8(kline.high_e8),
        text_e8(kline.low_e8),
        text_e8(kline.close_e8),
        text_e8(kline.volume_e8),
        kline.close_ms,
        text_e16(kline.quote_e16),
        kline.trades,
        text_e8(kline.taker_e8),
        text_e16(kline.taker_quote_e16),
        "0",
    ]


def build_trade_row(trade: Trade) -> dict[str, Any]:
    """The row of `GET /api/v3/trades` and `historicalTrades`."""
    return {
        "id": trade.first,
        "price": text_e8(trade.price_e8),
        "qty": text_e8(trade.size_e8),
        "quoteQty": text_e16(trade.price_e8 * trade.size_e8),
        "time": trade.time_us // 1000,
        "isBuyerMaker": not trade.taker_buy,
        "isBestMatch": True,
    }


def build_agg_row(agg_id: int, trade: Trade) -> dict[str, Any]:
    """The row of `GET /api/v3/aggTrades`."""
    return {
        "a": agg_id,
        "p": text_e8(trade.price_e8),
        "q": text_e8(trade.size_e8),
        "f": trade.first,
        "l": trade.last,
        "T": trade.time_us // 1000,
        "m": not trade.taker_buy,
        "M": True,
    }


def text_e8(units: int) -> str:
    """The 8-place decimal of `units` × 1e-8, as Binance prints every number."""
    return f"{units // UNIT}.{units % UNIT:08d}"


def text_e16(units: int) -> str:
    """The 8-place decimal of `units` × 1e-16, rounded half to even."""
    whole, rest = divmod(units, UNIT)
    half = UNIT // 2
    return text_e8(whole + (rest > half or (rest == half and whole % 2 == 1)))


def _us(time: int) -> int:
    return time if time > _MICROSECONDS else time * 1000


def _end_us(close_time: int) -> int:
    """The last µs of a bar whose close time is given as its last ms (or µs)."""
    return close_time if close_time > _MICROSECONDS else close_time * 1000 + 999


def _shorten(frame: bytes | str) -> str:
    text = frame.decode("utf-8", "replace") if isinstance(frame, bytes) else frame
    return text if len(text) <= 200 else text[:200] + "…"
