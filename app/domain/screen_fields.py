"""What instruments can be screened by, and the screens people ask for most: data, not code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.domain.indicator_names import INDICATORS

Unit = Literal["price", "percent", "amount", "number"]


@dataclass(frozen=True, slots=True)
class ScreenField:
    """A number that each instrument may have: of its newest completed bar, or of its last 24 hours."""

    name: str
    label: str
    unit: Unit
    group: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A ready-made screen: its conditions and order, in the words of app.domain.screening."""

    id: str
    title: str
    where: str
    sort: str


_DAY, _BAR, _TREND, _MOMENTUM = "Last 24 hours", "Newest completed bar", "Averages and bands", "Momentum"

_LABELS: dict[str, tuple[str, Unit, str]] = {
    "rsi_14": ("RSI 14", "number", _MOMENTUM),
    "macd": ("MACD", "price", _MOMENTUM),
    "macd_signal": ("MACD signal", "price", _MOMENTUM),
    "macd_hist": ("MACD histogram", "price", _MOMENTUM),
    "bb_upper": ("Bollinger upper", "price", _TREND),
    "bb_middle": ("Bollinger middle", "price", _TREND),
    "bb_lower": ("Bollinger lower", "price", _TREND),
    "vwap": ("VWAP", "price", _TREND),
    "stoch_k": ("Stochastic %K", "number", _MOMENTUM),
    "stoch_d": ("Stochastic %D", "number", _MOMENTUM),
    "volume_sma": ("Volume average 20", "amount", _BAR),
    **{f"sma_{n}": (f"SMA {n}", "price", _TREND) for n in (20, 50, 100, 200)},
    **{f"ema_{n}": (f"EMA {n}", "price", _TREND) for n in (12, 26, 50)},
}

DAY_FIELDS: tuple[ScreenField, ...] = (
    ScreenField("price", "Last price", "price", _DAY),
    ScreenField("change_24h", "Change 24 h", "percent", _DAY),
    ScreenField("volume_24h", "Volume 24 h", "amount", _DAY),
    ScreenField("quote_volume_24h", "Turnover 24 h", "amount", _DAY),
    ScreenField("high_24h", "High 24 h", "price", _DAY),
    ScreenField("low_24h", "Low 24 h", "price", _DAY),
)
BAR_FIELDS: tuple[ScreenField, ...] = (
    ScreenField("open", "Open", "price", _BAR),
    ScreenField("high", "High", "price", _BAR),
    ScreenField("low", "Low", "price", _BAR),
    ScreenField("close", "Close", "price", _BAR),
    ScreenField("change_1", "Change of the bar", "percent", _BAR),
    ScreenField("volume", "Volume", "amount", _BAR),
    ScreenField("quote_volume", "Turnover", "amount", _BAR),
    ScreenField("trade_count", "Trades", "number", _BAR),
)
FIELDS: dict[str, ScreenField] = {
    field.name: field
    for field in (*DAY_FIELDS, *BAR_FIELDS, *(ScreenField(name, *_LABELS[name]) for name in INDICATORS))
}

PRESETS: tuple[Preset, ...] = (
    Preset("rsi_low", "RSI below 30", "rsi_14<30", "rsi_14"),
    Preset("rsi_high", "RSI above 70", "rsi_14>70", "-rsi_14"),
    Preset("above_sma_200", "Close above SMA 200", "close>sma_200", "-close/sma_200"),
    Preset("golden", "SMA 50 above SMA 200", "sma_50>sma_200", "-sma_50/sma_200"),
    Preset("volume", "Volume over 2 × its average", "volume>2*volume_sma", "-volume/volume_sma"),
    Preset("gainers", "Top gainers 24 h", "change_24h>0", "-change_24h"),
    Preset("losers", "Top losers 24 h", "change_24h<0", "change_24h"),
    Preset("bb_upper", "Near the upper Bollinger band", "close>0.995*bb_upper", "-close/bb_upper"),
    Preset("bb_lower", "Near the lower Bollinger band", "close<1.005*bb_lower", "close/bb_lower"),
    Preset("macd", "MACD above its signal", "macd>macd_signal", "-macd_hist/close"),
    Preset("stoch_low", "Stochastic below 20", "stoch_k<20,stoch_d<20", "stoch_k"),
)


def choices() -> dict[str, Any]:
    """Fields, operators and presets as JSON: what a page, or a program, can choose from."""
    return {
        "fields": [asdict(field) for field in FIELDS.values()],
        "operators": list(OPERATORS),
        "presets": [asdict(preset) for preset in PRESETS],
    }


OPERATORS: tuple[str, ...] = ("<", "<=", ">", ">=", "=", "!=")
