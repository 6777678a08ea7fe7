"""The oracle of the indicator tests: TA-Lib called directly over the whole history, and DESIGN.md's tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import talib
from numpy.typing import NDArray

DAY_MS = 86_400_000
Floats = NDArray[np.float64]


def talib_columns(high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    """Every indicator but vwap, straight from TA-Lib."""
    macd, signal, hist = talib.MACD(close, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0, 0)
    k, d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    columns = {"rsi_14": talib.RSI(close, 14), "macd": macd, "macd_signal": signal, "macd_hist": hist}
    columns |= {"bb_upper": upper, "bb_middle": middle, "bb_lower": lower, "stoch_k": k, "stoch_d": d}
    columns |= {f"sma_{n}": talib.SMA(close, n) for n in (20, 50, 100, 200)}
    columns |= {f"ema_{n}": talib.EMA(close, n) for n in (12, 26, 50)}
    return {**columns, "volume_sma": talib.SMA(volume, 20)}


def exact_vwap(times: Sequence[int], volume: Sequence[object], quote: Sequence[object]) -> list[float]:
    """Quote volume over volume since 00:00 UTC, in fractions; NaN where nothing traded."""
    values, day, total, amount = [], -1, Fraction(0), Fraction(0)
    for time, size, money in zip(times, volume, quote, strict=True):
        if time // DAY_MS != day:
            day, total, amount = time // DAY_MS, Fraction(0), Fraction(0)
        total, amount = total + Fraction(str(size)), amount + Fraction(str(money))
        values.append(float(amount / total) if total else math.nan)
    return values


def tolerance(name: str, close: Floats, volume: Floats) -> Floats:
    """The scale of DESIGN.md section 3 for each bar, times 1e-6."""
    if name.startswith(("rsi", "stoch")):
        return np.full(len(close), 100e-6)
    if name == "volume_sma":
        return np.full(len(close), 1e-6 * max(float(volume.mean()), 1e-300))
    return np.asarray(1e-6 * close * (1e-3 if name.startswith("macd") else 1.0))


def assert_equal(got: Mapping[str, Floats], want: Mapping[str, Floats], close: Floats, volume: Floats) -> None:
    """Equal within the tolerance, and null at the same places."""
    assert set(got) == set(want)
    for name, expected in want.items():
        values = got[name]
        assert np.array_equal(np.isnan(values), np.isnan(expected)), f"{name}: null at other bars"
        limit = np.maximum(tolerance(name, close, volume), 1e-6 * np.abs(np.nan_to_num(expected)))
        wrong = np.flatnonzero(np.abs(np.nan_to_num(values) - np.nan_to_num(expected)) > limit)
        assert not len(wrong), f"{name} at {wrong[:5]}: {values[wrong[:5]]} instead of {expected[wrong[:5]]}"
