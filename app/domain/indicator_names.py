"""The indicators' names, once: columns of the tables, keys of the API, lines of the charts."""

from __future__ import annotations

INDICATORS: tuple[str, ...] = (
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_hist",
    "bb_upper",
    "bb_middle",
    "bb_lower",
    "sma_20",
    "sma_50",
    "sma_100",
    "sma_200",
    "ema_12",
    "ema_26",
    "ema_50",
    "vwap",
    "stoch_k",
    "stoch_d",
    "volume_sma",
)
