"""Made-up bars for the stub: a seeded walk in one-minute steps, its roll-ups and indicators by plain pandas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

MINUTE = 60_000
STEPS = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
NOW = 1_768_486_200_000 + 17_000  # 2026-01-15 14:10:17 UTC: the stub's market stands still unless told to move
Row = dict[str, Any]


def minutes(
    seed: int, price: float, *, decimals: int, count: int = 9000, holes: tuple[tuple[int, int], ...] = ()
) -> list[Row]:
    """`count` one-minute bars up to NOW, the last one open; `holes` are (bars before the end, length)."""
    rng = np.random.default_rng(seed)
    missing = {count - back + n for back, length in holes for n in range(length)}
    start = NOW - NOW % MINUTE - (count - 1) * MINUTE
    pull = np.sin(np.arange(count * 8) / 2300 + seed) * 0.035 + np.sin(np.arange(count * 8) / 610) * 0.008
    walk = np.cumsum(rng.normal(0, 0.00019, count * 8))
    prices = np.round(price * np.exp(pull + walk - walk[-1]), decimals)
    busy = np.abs(np.diff(prices[::8], append=prices[-1])) / price * 900
    volumes = np.round(rng.gamma(1.8, 2.0, count) * (1 + busy) * 60_000 / price, 5).tolist()
    walked = prices.tolist()
    return [
        bar(
            start + index * MINUTE,
            walked[max(0, index * 8 - 1) : index * 8 + 8],
            volume=volumes[index],
            state="open" if index == count - 1 else "verified",
        )
        for index in range(count)
        if index not in missing
    ]


def traded(rows: list[Row]) -> list[Row]:
    """What a delayed stock market has of them: its hours in Istanbul, up to a quarter of an hour ago, some quiet."""
    hours = (6 * 60 + 40, 15 * 60 + 10)
    found = []
    for row in rows:
        minute, day = row["time"] // MINUTE % 1440, row["time"] // MINUTE // 1440
        quiet = row["time"] // MINUTE * 7919 % 11 == 0
        if hours[0] <= minute < hours[1] and (day + 3) % 7 < 5 and row["time"] < NOW - 15 * MINUTE and not quiet:
            found.append({**row, "delayed": True, "origin": "exchange"})
    return found


def bar(time: int, prices: list[float], *, volume: float, state: str = "open") -> Row:
    """One bar as the API shows it."""
    return {
        "time": time,
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "quote_volume": round(volume * prices[-1], 8),
        "trade_count": len(prices) * 7,
        "state": state,
        "completed": state != "open",
        "revision": 0,
        "origin": "trades",
    }


def rolled_up(rows: list[Row], timeframe: str) -> list[Row]:
    """The bars of a longer timeframe; the newest is open."""
    step = STEPS[timeframe] * MINUTE
    if timeframe == "1m":
        return rows
    frame = pd.DataFrame(rows)
    frame["time"] -= frame["time"] % step
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "quote_volume": "sum"}
    out = frame.groupby("time").agg({**how, "trade_count": "sum", "state": "last"}).reset_index().to_dict("records")
    return [
        {
            **{str(key): value for key, value in row.items()},
            "completed": row["state"] != "open",
            "revision": 0,
            "origin": "rollup",
        }
        for row in out
    ]


def indicators(rows: list[Row]) -> list[Row]:
    """A row of indicator values for each completed bar; near enough for a page, not for a trader."""
    frame = pd.DataFrame([row for row in rows if row["completed"]])
    if frame.empty:
        return []
    close, high, low, volume = frame["close"], frame["high"], frame["low"], frame["volume"]
    gain = close.diff().clip(lower=0).ewm(alpha=1 / 14, min_periods=14).mean()
    loss = (-close.diff().clip(upper=0)).ewm(alpha=1 / 14, min_periods=14).mean()
    macd = close.ewm(span=12, min_periods=12).mean() - close.ewm(span=26, min_periods=26).mean()
    signal = macd.ewm(span=9, min_periods=9).mean()
    middle, deviation = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    lowest, highest = low.rolling(14).min(), high.rolling(14).max()
    k = (100 * (close - lowest) / (highest - lowest)).rolling(3).mean()
    day = frame["time"] // 86_400_000
    typical = (high + low + close) / 3
    columns: dict[str, Any] = {
        "time": frame["time"],
        "rsi_14": 100 - 100 / (1 + gain / loss),
        "macd": macd,
        "macd_signal": signal,
        "macd_hist": macd - signal,
        "bb_upper": middle + 2 * deviation,
        "bb_middle": middle,
        "bb_lower": middle - 2 * deviation,
        **{f"sma_{n}": close.rolling(n).mean() for n in (20, 50, 100, 200)},
        **{f"ema_{n}": close.ewm(span=n, min_periods=n).mean() for n in (12, 26, 50)},
        "vwap": (typical * volume).groupby(day).cumsum() / volume.groupby(day).cumsum(),
        "stoch_k": k,
        "stoch_d": k.rolling(3).mean(),
        "volume_sma": volume.rolling(20).mean(),
    }
    records = pd.DataFrame(columns).to_dict("records")
    return [{str(key): _json(value) for key, value in row.items()} for row in records]


def _json(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 8)
