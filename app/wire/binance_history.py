"""Binance spot's history on the wire: rows of REST answers, parsed for the clients, built for the simulated market.

Format: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from app.domain.bars import Bar, Origin, State
from app.domain.trades import Trade
from app.errors import WireError
from app.wire.binance import WireKline, micros, text_e8, text_e16


def parse_klines(rows: Iterable[Sequence[Any]], instrument_id: int) -> list[Bar]:
    """The bars of a `GET /api/v3/klines` answer, in its order (the newest may be unfinished); raises WireError."""
    try:
        return [_parse_row(row, instrument_id) for row in rows]
    except (IndexError, KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise WireError(f"Binance sent klines that it does not document ({error})") from error


def _parse_row(row: Sequence[Any], instrument_id: int) -> Bar:
    start_us, end = micros(row[0]), int(row[6])
    end_us = end if end == micros(end) else micros(end) + 999  # the close time is the bar's last ms, or µs
    return Bar(
        instrument_id,
        start_us // 1000,
        float(row[1]),
        float(row[2]),
        float(row[3]),
        float(row[4]),
        Decimal(row[5]),
        Decimal(row[7]),
        Decimal(row[9]),
        int(row[8]),
        start_us,
        0,
        end_us,
        0,
        State.VERIFIED,
        0,
        Origin.EXCHANGE,
    )


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
