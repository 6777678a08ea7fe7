"""A chart in other shapes: one list a field, or a CSV file; both from the JSON that the cache gives; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe

FIELDS = (
    "time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count", "state", "completed", "revision",
    "origin",
)  # fmt: skip


def columns(chart: bytes, *, names: Sequence[str]) -> dict[str, list[Any]]:
    """The fields of the bars and the indicators `names`, one list each; None where a bar has no value."""
    read = orjson.loads(chart)
    bars: list[Mapping[str, Any]] = read["bars"]
    rows: dict[int, Mapping[str, Any]] = {row["time"]: row for row in read["indicators"]}
    fields = (*FIELDS, "delayed") if any("delayed" in bar for bar in bars) else FIELDS
    found: dict[str, list[Any]] = {name: [bar[name] for bar in bars] for name in fields}
    none = dict.fromkeys(names)
    beside = [rows.get(bar["time"], none) for bar in bars]
    return found | {name: [row[name] for row in beside] for name in names}


def columns_json(chart: bytes, *, names: Sequence[str]) -> bytes:
    """The columns as JSON."""
    return orjson.dumps(columns(chart, names=names))


def csv_text(chart: bytes, *, names: Sequence[str]) -> bytes:
    """The columns as CSV (RFC 4180) with a header; `time_iso` says each bar's start in UTC beside its ms."""
    found = columns(chart, names=names)
    times = found.pop("time")
    found = {"time": times, "time_iso": [_iso(time_ms) for time_ms in times], **found}
    rows = zip(*map(_cells, found.values()), strict=True) if times else ()
    return "".join(f"{','.join(row)}\r\n" for row in (found, *rows)).encode()


def file_name(instrument: Instrument, tf: Timeframe) -> str:
    """binance_BTC-USDT_1m.csv: fit for every file system, whatever the symbol is made of."""
    symbol = re.sub(r"[^A-Za-z0-9.]+", "-", instrument.symbol)
    return f"{instrument.exchange.value}_{symbol}_{tf.value}.csv"


def _iso(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _cells(values: Sequence[Any]) -> Sequence[str]:
    """A column as CSV has it: numbers as in JSON, nothing where there is none; no word of ours needs quotes."""
    if isinstance(values[0], str):
        return values
    return orjson.dumps(values)[1:-1].decode().replace("null", "").split(",")
