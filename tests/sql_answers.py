"""What each query of docs/sql.md must answer on the market of tests/sql_market.py, worked out by pandas and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from app.domain.timeframes import Timeframe
from tests.indicator_oracle import talib_columns
from tests.sql_market import EXCHANGE_DAYS, FLAT, NOW, OPEN, VERIFIED, Series, market, prices, sums, utc

TODAY = NOW.floor("D")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Near:
    """A value that the query rounds."""

    value: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decimal):
            return NotImplemented
        places = -int(other.as_tuple().exponent)
        return abs(float(other) - self.value) <= 0.5 * 10.0**-places + 1e-6 * max(1.0, abs(self.value) * 1e-6)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Bar:
    """A known bar."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    amount: Decimal
    trades: int
    state: int
    flat: bool


def bars(series: Series, timeframe: str, lo: pd.Timestamp, hi: pd.Timestamp = NOW) -> list[Bar]:
    """The series' bars with lo <= time < hi."""
    frame = series.bars[Timeframe(timeframe)]
    frame = frame[(frame.index >= lo) & (frame.index < hi)]
    columns = zip(
        (time.to_pydatetime() for time in frame.index),
        *(prices(frame, name).tolist() for name in "ohlc"),
        *(sums(series.about, frame, name) for name in "vq"),
        frame["n"].tolist(),
        frame["state"].tolist(),
        (frame["origin"] == FLAT).tolist(),
        strict=True,
    )
    return [Bar(*row) for row in columns]


def indicators(series: Series, timeframe: str) -> dict[datetime, dict[str, float]]:
    """TA-Lib's indicators over all of a series, by time; NaN where there are none."""
    frame = series.bars[Timeframe(timeframe)]
    volume = np.array([float(value) for value in sums(series.about, frame, "v")])
    columns = talib_columns(prices(frame, "h"), prices(frame, "l"), prices(frame, "c"), volume)
    times = [time.to_pydatetime() for time in frame.index]
    return {time: {name: float(values[i]) for name, values in columns.items()} for i, time in enumerate(times)}


def each() -> Iterator[Series]:
    """The series by (exchange, symbol)."""
    return iter(sorted(market().values(), key=lambda series: series.key))


def ago(text: str, since: pd.Timestamp = NOW) -> pd.Timestamp:
    """So long before."""
    return since - pd.Timedelta(text)


def movers() -> list[Row]:
    rows = []
    for series in each():
        if found := bars(series, "5m", ago("24h")):
            change = 100 * (found[-1].close / found[0].open - 1)
            high, low = max(bar.high for bar in found), min(bar.low for bar in found)
            amount = Near(float(sum(bar.amount for bar in found)))
            rows.append((change, (*series.key, found[-1].close, Near(change), high, low, amount)))
    return [row for _, row in sorted(rows, key=lambda row: -row[0])]


def newest() -> list[Row]:
    rows = []
    for series in each():
        last, known = bars(series, "1h", ago("5D"))[-1], indicators(series, "1h")
        name = ("open", "closed", "verified")[last.state]
        values = known[last.time]
        above = 100 * (last.close / values["sma_20"] - 1)
        rows.append((*series.key, last.time, last.close, name, Near(values["rsi_14"]), Near(above)))
    return rows


def oversold() -> list[Row]:
    rows = []
    for series in each():
        last = [bar for bar in bars(series, "1h", ago("5D")) if bar.state > OPEN][-1]
        values = indicators(series, "1h")[last.time]
        rsi, average = values["rsi_14"], values["sma_200"]
        if rsi < 30 and last.close > average:
            rows.append((rsi, (*series.key, last.time, last.close, Near(rsi), Near(100 * (last.close / average - 1)))))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def crosses() -> list[Row]:
    rows: list[Row] = []
    for series in each():
        gaps = {time: values["sma_50"] - values["sma_200"] for time, values in indicators(series, "1d").items()}
        inside = [(time, gap) for time, gap in gaps.items() if ago("365D") <= time < TODAY and not math.isnan(gap)]
        for (_, before), (time, gap) in pairwise(inside):
            if before * gap < 0:
                rows.append((time.date(), *series.key, "golden" if gap > 0 else "death"))
    return sorted(rows, key=lambda row: (-row[0].toordinal(), row[1:]))


def hours() -> list[Row]:
    found = bars(market()["BTC/USDT"], "1h", ago("28D", TODAY), TODAY)
    total = sum(bar.amount for bar in found)
    rows = []
    for hour in range(24):
        own = [bar.amount for bar in found if bar.time.hour == hour]
        rows.append((hour, Near(float(sum(own) / len(own))), Near(float(100 * sum(own) / total)), len(own)))
    return rows


def together() -> list[Row]:
    columns: list[pd.Series[float]] = []
    for symbol in ("BTC/USDT", "ETH/USDT"):
        found = {bar.time: bar.close for bar in bars(market()[symbol], "1h", ago("30D")) if bar.state > OPEN}
        close = pd.Series(found).sort_index().asfreq("h")
        columns.append((close / close.shift(1)).map(math.log, na_action="ignore"))
    both = pd.concat(columns, axis=1).dropna().to_numpy()
    spread = np.cov(both.T)
    return [(len(both), Near(float(np.corrcoef(both.T)[0, 1])), Near(float(spread[0, 1] / spread[0, 0])))]


def restless() -> list[Row]:
    rows = []
    for series in each():
        days: dict[date, float] = {}
        for day in pd.date_range(ago("7D", TODAY), TODAY, inclusive="left"):
            found = bars(series, "5m", day, day + pd.Timedelta("1D"))
            if found:
                path = [found[0].open, *(bar.close for bar in found)]
                days[day.date()] = 100 * math.hypot(*(math.log(b / a) for a, b in pairwise(path)))
        most = max(days, key=lambda day: days[day])
        mean = sum(days.values()) / len(days)
        rows.append((mean, (*series.key, len(days), Near(mean), Near(days[most]), most)))
    return [row for _, row in sorted(rows, key=lambda row: -row[0])]


def falls() -> list[Row]:
    rows = []
    for series in each():
        found = bars(series, "1d", ago("365D"))
        peaks = np.maximum.accumulate([bar.close for bar in found]).tolist()
        low, i = min((bar.close / peak, i) for i, (bar, peak) in enumerate(zip(found, peaks, strict=True)))
        fall = 100 * (low - 1)
        rows.append((fall, (*series.key, Near(fall), found[i].time.date(), peaks[i], found[i].close)))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def half_hours() -> list[Row]:
    rows = []
    start = ago("24h", NOW.floor("30min"))
    for lo in pd.date_range(start, NOW.floor("30min"), freq="30min", inclusive="left"):
        found = bars(market()["SOL/USDT"], "1m", lo, lo + pd.Timedelta("30min"))
        row = _joined(lo.to_pydatetime(), [bar for bar in found if not bar.flat] or found)
        rows.append((*row, sum(bar.trades for bar in found), len(found)))
    return rows


def weeks() -> list[Row]:
    found = bars(market()["AAPL"], "1d", ago("84D", ago(f"{TODAY.weekday()}D", TODAY)))
    by_week: dict[date, list[Bar]] = {}
    for bar in found:
        by_week.setdefault(date.fromisocalendar(*bar.time.isocalendar()[:2], 1), []).append(bar)
    return [(*_joined(week, own)[:-1], len(own)) for week, own in sorted(by_week.items(), reverse=True)]


def _joined(name: date, own: list[Bar]) -> Row:
    high, low = max(bar.high for bar in own), min(bar.low for bar in own)
    totals = (sum(bar.volume for bar in own), sum(bar.amount for bar in own))
    return (name, own[0].open, high, low, own[-1].close, *totals)


def against_average() -> list[Row]:
    rows: list[Row] = []
    for day, (lo, hi) in sorted(EXCHANGE_DAYS["XNYS"].items(), reverse=True):
        start, end = utc(f"{day} {lo}"), utc(f"{day} {hi}")
        for symbol in ("AAPL", "NVDA"):
            own = bars(market()[symbol], "1m", start, end)
            volume, amount = (sum(getattr(bar, name) for bar in own) for name in ("volume", "amount"))
            vwap, close = float(amount / volume), own[-1].close
            length = round((end - start).total_seconds() / 60)
            rows.append((day, symbol, length, len(own), volume, Near(vwap), close, Near(100 * (close / vwap - 1))))
    return rows


def missing() -> list[Row]:
    rows = []
    for series in each():
        for day in pd.date_range(ago("3D", TODAY), TODAY):
            lo, hi = _trading(series, day)
            last = min(hi, ago("30min")) - pd.Timedelta("1min")
            grid = list(pd.date_range(max(lo, series.about.since), last, freq="min")) if lo < hi else []
            states = {bar.time: bar.state for bar in bars(series, "1m", lo, hi)}
            absent = [time for time in grid if time not in states]
            lost = [time for time in absent if series.about.exchange == "binance" or _in_hole(series, time)]
            unsure = sum(time in states and states[time] < VERIFIED for time in grid)
            if lost or unsure:
                counts = (len(grid), len(grid) - len(absent), len(lost), len(absent) - len(lost), unsure)
                rows.append((day.date(), *series.key, *counts))
    return sorted(rows, key=lambda row: (-row[5], -row[7], row[:3]))


def _trading(series: Series, day: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    """From when to when the market was open; an empty stretch where it was not."""
    if series.about.calendar == "24/7":
        return day, day + pd.Timedelta("1D")
    hours = EXCHANGE_DAYS[series.about.calendar].get(day.date(), ("00:00", "00:00"))
    return utc(f"{day.date()} {hours[0]}"), utc(f"{day.date()} {hours[1]}")


def _in_hole(series: Series, time: pd.Timestamp) -> bool:
    return any(utc(lo) <= time < utc(hi) for lo, hi in series.about.holes)


def quality() -> list[Row]:
    counts: dict[tuple[datetime, str], list[Bar]] = {}
    for series in each():
        for bar in bars(series, "1m", ago("24h", NOW.floor("h"))):
            counts.setdefault((bar.time.replace(minute=0), series.about.exchange), []).append(bar)
    rows = []
    for (hour, exchange), own in sorted(counts.items(), key=lambda item: (-item[0][0].timestamp(), item[0][1])):
        closed, sure = (sum(bar.state >= state for bar in own) for state in (1, 2))
        flat, trades = sum(bar.flat for bar in own), sum(bar.trades for bar in own)
        rows.append((hour, exchange, len(own), closed, sure, Near(100 * sure / closed), 0, flat, trades))
    return rows


ANSWERS: dict[str, Callable[[], Iterable[Row]]] = {
    "Movers of the last 24 hours": movers,
    "The newest bar of every symbol, with its RSI": newest,
    "Oversold in an upward trend": oversold,
    "Golden and death crosses": crosses,
    "Volume by hour of the day": hours,
    "How two symbols move together": together,
    "The most restless symbols": restless,
    "The deepest falls of a year": falls,
    "Bars of another length": half_hours,
    "Weeks from days": weeks,
    "Where a session closed against its average price": against_average,
    "What is missing": missing,
    "How good the data are, by hour": quality,
}
