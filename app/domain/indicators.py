"""Indicators of a series of bars: 18 columns through pandas-ta on TA-Lib's C code, and how far a bar's value reaches.

The one module that knows pandas-ta. It is loaded at the first computation, so only workers that compute carry it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import DAY_MS

Floats = NDArray[np.float64]

# A bar is forgotten after so many bars: EMA 50 keeps (49/51)^600 = 4e-11 of it, RSI (13/14)^600 = 5e-20. RSI is a
# quotient, though, and through bars whose close does not change it forgets nothing: both its parts shrink alike.
MEMORY_BARS = 600
MEMORY_MOST = 20_000  # no window reaches farther: the longest quiet stretch that is filled with flat bars is shorter

_LONGEST = 200  # bars sma_200 needs: series are padded to it, since pandas-ta answers None to shorter ones


@dataclass(frozen=True, slots=True)
class BarColumns:
    """Bars of one instrument and timeframe, oldest first, as columns of equal length."""

    time_ms: NDArray[np.int64]
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.time_ms)

    def part(self, start: int, stop: int) -> BarColumns:
        """The bars [start, stop) by index."""
        cut = slice(start, stop)
        return BarColumns(self.time_ms[cut], self.high[cut], self.low[cut], self.close[cut], self.volume[cut])


@dataclass(frozen=True, slots=True)
class IndicatorColumns:
    """Indicator values of one instrument and timeframe: one column for each of INDICATORS, NaN where there is none."""

    instrument_id: int
    time_ms: NDArray[np.int64]
    values: dict[str, Floats]

    def last(self) -> dict[str, int | float | None]:
        """The newest bar's values as the API shows them."""
        row = {name: float(column[-1]) for name, column in self.values.items()}
        return {"time": int(self.time_ms[-1]), **{name: None if x != x else x for name, x in row.items()}}


def compute(bars: BarColumns) -> dict[str, Floats]:
    """Every indicator but vwap over the whole of `bars` (one at least); NaN where TA-Lib has none.

    The padding at the end cannot reach back: no indicator looks ahead.
    """
    ta, n = _pandas_ta(), len(bars)
    high, low, close, volume = (_series(column) for column in (bars.high, bars.low, bars.close, bars.volume))
    macd = ta.macd(close, fast=12, slow=26, signal=9, talib=True)
    bands = ta.bbands(close, length=20, lower_std=2.0, upper_std=2.0, ddof=0, talib=True)
    stoch = ta.stoch(high, low, close, k=14, d=3, smooth_k=3, talib=True)
    columns = {
        "rsi_14": ta.rsi(close, length=14, talib=True),
        "macd": macd["MACD_12_26_9"],
        "macd_signal": macd["MACDs_12_26_9"],
        "macd_hist": macd["MACDh_12_26_9"],
        "bb_upper": bands["BBU_20_2.0_2.0"],
        "bb_middle": bands["BBM_20_2.0_2.0"],
        "bb_lower": bands["BBL_20_2.0_2.0"],
        **{f"sma_{length}": ta.sma(close, length=length, talib=True) for length in (20, 50, 100, 200)},
        **{f"ema_{length}": ta.ema(close, length=length, talib=True) for length in (12, 26, 50)},
        "stoch_k": stoch["STOCHk_14_3_3"],
        "stoch_d": stoch["STOCHd_14_3_3"],
        "volume_sma": ta.sma(volume, length=20, talib=True),
    }
    return {name: column.to_numpy(dtype=np.float64)[:n] + 0.0 for name, column in columns.items()}  # -0.0 + 0.0 = 0.0


_EXACT = Context(prec=200)  # sums of NUMERICs must not be rounded
_QUOTIENT = Context(prec=28)


def vwap(
    time_ms: Sequence[int],
    volume: Sequence[Decimal],
    quote_volume: Sequence[Decimal],
    *,
    carried: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0)),
) -> Floats:
    """Volume-weighted average price since 00:00 UTC of each bar's day, from exact sums; NaN while nothing traded.

    `carried` is (volume, quote volume) of the first bar's day before that bar.
    """
    total, quote = carried
    values = np.full(len(time_ms), np.nan)
    day = time_ms[0] // DAY_MS if len(time_ms) else 0
    for place, (time, size, amount) in enumerate(zip(time_ms, volume, quote_volume, strict=True)):
        if time // DAY_MS != day:
            day, total, quote = time // DAY_MS, Decimal(0), Decimal(0)
        total, quote = _EXACT.add(total, size), _EXACT.add(quote, amount)
        if total:
            values[place] = float(_QUOTIENT.divide(quote, total))
    return values


def together(bars: BarColumns, vwaps: Floats, *, instrument_id: int) -> IndicatorColumns:
    """The indicators of the last `len(vwaps)` bars; the bars before them are warm-up."""
    values = compute(bars)
    values["vwap"] = vwaps
    kept = len(vwaps)
    start = len(bars) - kept
    return IndicatorColumns(
        instrument_id,
        bars.time_ms[start:],
        {name: values[name][-kept:] if kept else values[name][:0] for name in INDICATORS},
    )


def warm_up_start(close: Floats, at: int, *, whole: bool) -> int | None:
    """The index from which the value at `at` must be computed to equal the one over the whole history.

    600 bars before the last close up to `at` that changed, yet at most 20,000; index 0 where history begins there
    (`whole`), so that the first values are null as they should be. None: `close` begins too late to say.
    """
    changed = np.flatnonzero(np.diff(close[: at + 1])) + 1
    if len(changed) and changed[-1] >= MEMORY_BARS:
        return int(max(changed[-1] - MEMORY_BARS, at - MEMORY_MOST))
    if at >= MEMORY_MOST:
        return at - MEMORY_MOST
    return 0 if whole else None


def reach_end(close: Floats, last: int, *, whole: bool) -> int | None:
    """The index of the last bar whose value depends on the bar at `last`.

    The bar before the first changed close 600 bars on, yet at most 20,000; the newest bar where `close` ends there
    (`whole`). None: `close` ends too early to say.
    """
    forgotten = last + MEMORY_BARS
    changed = np.flatnonzero(np.diff(close[forgotten - 1 :])) + forgotten
    if len(changed):
        return int(min(changed[0] - 1, last + MEMORY_MOST))
    newest = len(close) - 1
    if newest >= last + MEMORY_MOST:
        return last + MEMORY_MOST
    return newest if whole else None


def _series(column: Floats) -> Any:  # pandas.Series; Any keeps pandas out of the module's import
    import pandas as pd

    short = _LONGEST - len(column)
    return pd.Series(np.pad(column, (0, short), mode="edge") if 0 < short < _LONGEST else column)


def preload() -> None:
    """Imports what computing needs, so that processes forked afterwards share its memory."""
    _pandas_ta()


@cache
def _pandas_ta() -> ModuleType:
    with warnings.catch_warnings():  # it uses names that pandas 3 deprecates, at its import only
        warnings.simplefilter("ignore")
        import pandas_ta
    if not pandas_ta.Imports["talib"]:
        raise ImportError("TA-Lib is not installed: indicators would differ; pip install -r requirements.txt")
    return pandas_ta
