"""A market of which every bar is known, for the queries of docs/sql.md: two years of minutes, drawn from fixed seeds.

What the exchange said of older stretches is given as bars of that length; the last days are minutes, some of them
trades, from which the platform makes the rest. Here the longer bars are made by pandas.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.domain.timeframes import Timeframe

Ints = NDArray[np.int64]
NOW = pd.Timestamp("2025-11-28 21:30:30", tz="UTC")  # the Friday after Thanksgiving: New York closed at 18:00 UTC
FIRST = pd.Timestamp("2024-10-01", tz="UTC")
MINUTES_SINCE = pd.Timestamp("2025-11-25", tz="UTC")
SINCE = {
    Timeframe.M5: pd.Timestamp("2025-11-20", tz="UTC"),
    Timeframe.H1: pd.Timestamp("2025-10-28", tz="UTC"),
    Timeframe.D1: FIRST,
}
TRADES_SINCE = pd.Timestamp("2025-11-28 20:00", tz="UTC")  # BTC's minutes from here on come as trades
VERIFIED_UNTIL = pd.Timestamp("2025-11-28 20:30", tz="UTC")
OPEN_MINUTE = NOW.floor("min")

OPEN, CLOSED, VERIFIED = 0, 1, 2
TRADES, EXCHANGE, ROLLUP, FLAT = 0, 1, 2, 3

# Which sessions there were from MINUTES_SINCE on, from the exchanges' own pages: New York had Thanksgiving on the 27th.
EXCHANGE_DAYS: dict[str, dict[date, tuple[str, str]]] = {
    "XNYS": {
        date(2025, 11, 25): ("14:30", "21:00"),
        date(2025, 11, 26): ("14:30", "21:00"),
        date(2025, 11, 28): ("14:30", "18:00"),
    },
    "XIST": {date(2025, 11, day): ("07:00", "15:00") for day in (25, 26, 27, 28)},
}


@dataclass(frozen=True)
class Symbol:
    """How a symbol's prices walk and what is missing of it."""

    exchange: str
    symbol: str
    calendar: str
    seed: int
    start: float
    scale: float  # of a step of the walk
    volume: int  # about so much a minute, in units of 10^-places
    places: int  # of volumes
    swing: float = 0.0  # of the slow wave that makes averages cross
    since: pd.Timestamp = MINUTES_SINCE  # its first minute bar
    holes: tuple[tuple[str, str], ...] = ()
    flats: tuple[tuple[str, str], ...] = ()
    story: tuple[
        tuple[str, str, float], ...
    ] = ()  # (from so long ago, to so long ago, change of the price's logarithm)
    quiet: float = 0.0  # share of minutes without a trade


SYMBOLS = (
    Symbol("binance", "BTC/USDT", "24/7", 1, 61_000, 6e-6, 300_000, 5, 0.10, story=(("12h", "0h", -0.03),)),
    Symbol(
        "binance", "ETH/USDT", "24/7", 2, 3_000, 9e-6, 900_000, 4, 0.16, story=(("9D", "1D", 0.25),),
        holes=(("2025-11-27 03:10", "2025-11-27 03:25"),),
    ),
    Symbol(
        "binance", "SOL/USDT", "24/7", 3, 140, 9e-6, 4_000_000, 3, 0.22, quiet=0.04,
        since=MINUTES_SINCE + pd.Timedelta("12h"),
        # It rose for twelve days and has fallen since the morning; after the long quiet minutes it jumps.
        story=(("303h", "15h", 0.5), ("17.3h", "17.2h", -0.012), ("11.45h", "11.42h", 0.012), ("15h", "0h", -0.07)),
        flats=(
            ("2025-11-26 04:00", "2025-11-26 04:12"), ("2025-11-28 04:00", "2025-11-28 04:34"),
            ("2025-11-28 10:00", "2025-11-28 10:07"),
        ),
    ),
    Symbol("alpaca", "AAPL", "XNYS", 4, 170, 6e-6, 40_000, 0, 0.12, quiet=0.05),
    Symbol(
        "alpaca", "NVDA", "XNYS", 5, 90, 1.1e-5, 90_000, 0, 0.2, quiet=0.03,
        holes=(("2025-11-26 14:40", "2025-11-26 15:40"),),
    ),
    Symbol(
        "yahoo", "THYAO.IS", "XIST", 6, 300, 9e-6, 20_000, 0, 0.1, quiet=0.06,
        holes=(("2025-11-25 09:00", "2025-11-25 09:05"),),
    ),
)  # fmt: skip
PRICE = 2  # places of every price
ODD_LOT = "AAPL"  # after the close it has an odd lot in OPEN_MINUTE, which is no bar


@dataclass(frozen=True)
class Series:
    """A symbol with all its bars by timeframe: times as the index; prices floats, sums Decimals."""

    about: Symbol
    bars: dict[Timeframe, pd.DataFrame]

    @property
    def key(self) -> tuple[str, str]:
        """(exchange, symbol)."""
        return self.about.exchange, self.about.symbol


@cache
def market() -> dict[str, Series]:
    """Every series, by symbol."""
    shared = np.random.RandomState(99).randint(-1000, 1001, len(_grid("24/7")))
    return {each.symbol: _series(each, shared) for each in SYMBOLS}


def _series(about: Symbol, shared: Ints) -> Series:
    minutes = _minutes(about, _grid(about.calendar), shared)
    held = _held(about, minutes[minutes.index >= about.since])
    bars = {Timeframe.M1: held}
    for tf in Timeframe:
        if tf is Timeframe.M1:
            continue
        made = longer(held[held["state"] > OPEN], tf, whole=about.exchange == "binance")
        for lo, hi in about.holes:
            touched = (made.index < utc(hi)) & (made.index > utc(lo) - pd.Timedelta(minutes=tf.minutes))
            made.loc[touched, "state"] = OPEN
        since = SINCE.get(tf)
        if since is None:
            bars[tf] = made
            continue
        # Stocks' days are the exchange's own, to the last.
        until = NOW if tf is Timeframe.D1 and about.exchange != "binance" else about.since.ceil(f"{tf.minutes}min")
        told = longer(minutes[(minutes.index >= since) & (minutes.index < until)], tf, whole=False)
        told["state"], told["origin"] = VERIFIED, np.where(told["flat"], FLAT, EXCHANGE)
        bars[tf] = pd.concat([told, made[~made.index.isin(told.index)]]).sort_index()
    return Series(about, bars)


def _grid(calendar: str) -> pd.DatetimeIndex:
    """Every minute in which the market is open, from FIRST to the one that is open."""
    if calendar == "24/7":
        return pd.date_range(FIRST, OPEN_MINUTE, freq="min")
    days = [pd.date_range(lo, hi, freq="min", inclusive="left") for lo, hi in sessions(calendar)]
    return pd.DatetimeIndex(np.concatenate(days), tz="UTC")


@cache
def sessions(calendar: str) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """(open, close) of each session; those of the last days are EXCHANGE_DAYS."""
    from app.sources.calendars import sessions as known

    cut = MINUTES_SINCE.date()
    rows = known(calendar, FIRST.value // 10**6, MINUTES_SINCE.value // 10**6)
    older = [(pd.Timestamp(row[1], unit="ms", tz="UTC"), pd.Timestamp(row[2], unit="ms", tz="UTC")) for row in rows]
    newer = [(utc(f"{day} {lo}"), utc(f"{day} {hi}")) for day, (lo, hi) in EXCHANGE_DAYS[calendar].items()]
    assert all(lo.date() < cut for lo, _ in older)
    return older + newer


def _minutes(about: Symbol, times: pd.DatetimeIndex, shared: Ints) -> pd.DataFrame:
    """All minutes of a symbol in whole numbers: prices in 10^-2, volumes in their own unit, amounts in both."""
    chance, count = np.random.RandomState(about.seed), len(times)
    steps = chance.randint(-1000, 1001, count)
    if about.calendar == "24/7":
        steps = (6 * steps + 8 * shared[:count]) // 10  # coins move together
    walk = np.cumsum(steps) * about.scale / 10
    day = (times - FIRST) / pd.Timedelta("1D")
    wave = about.swing * np.sin(np.asarray(day) / 33.0)
    ticks = np.round(about.start * 100 * np.exp(walk + wave + _story(about, times))).astype(np.int64)

    frame = pd.DataFrame({"c": ticks}, index=times)
    idle = chance.randint(0, 1000, count) < about.quiet * 1000
    for lo, hi in about.flats:
        idle |= np.asarray((times >= utc(lo)) & (times < utc(hi)))
    idle[0] = idle[-1] = False
    frame["flat"] = idle
    frame["c"] = frame["c"].where(~frame["flat"]).ffill().astype(np.int64)
    before = frame["c"].shift(1).fillna(frame["c"].iloc[0]).astype(np.int64)
    night = np.asarray(times.to_series().diff() > pd.Timedelta("1h"))
    jump = np.where(
        night, before // 100 * chance.randint(-8, 9, count) // 10, before * chance.randint(-9, 10, count) // 10**5
    )
    frame["o"] = np.where(idle | _after(about, times), frame["c"], before + jump)
    spread = chance.randint(0, 8, (2, count)) * frame["c"].to_numpy() // 10_000
    frame["h"] = np.maximum(frame["o"], frame["c"]) + np.where(idle, 0, spread[0])
    frame["l"] = np.minimum(frame["o"], frame["c"]) - np.where(idle, 0, spread[1])
    hour = np.asarray(times.hour)
    busy = 6 + np.where(hour >= 13, 9, 0) - np.where(hour >= 21, 5, 0)
    frame["v"] = np.where(idle, 0, about.volume * busy // 10 * chance.randint(20, 200, count) // 100)
    frame["n"] = np.where(idle | (about.exchange == "yahoo"), 0, chance.randint(4, 400, count))
    frame.loc[frame.index >= TRADES_SINCE, "n"] = 4 if about.symbol == "BTC/USDT" else frame["n"]
    part = frame["v"] // 4
    frame["q"] = (frame["o"] + frame["h"] + frame["l"]) * part + frame["c"] * (frame["v"] - 3 * part)
    frame["t"] = 2 * part if about.exchange == "binance" else 0
    frame["state"], frame["origin"] = VERIFIED, np.where(idle, FLAT, EXCHANGE)
    return frame


def _story(about: Symbol, times: pd.DatetimeIndex) -> Any:
    """The logarithm of what the story makes of the price."""
    ago = np.asarray((NOW - times) / pd.Timedelta("1min"))
    total = np.zeros(len(times))
    for begin, end, change in about.story:
        first, last = (pd.Timedelta(text) / pd.Timedelta("1min") for text in (begin, end))
        total += change * np.clip(first - ago, 0, first - last) / (first - last)
    return total


def _after(about: Symbol, times: pd.DatetimeIndex) -> Any:
    """Which minutes are the first with a trade after quiet ones: they open where they close."""
    return np.asarray(times.isin([utc(hi) for _, hi in about.flats]))


def _held(about: Symbol, minutes: pd.DataFrame) -> pd.DataFrame:
    """The minutes that are stored: holes are not, quiet minutes of stocks neither; BTC's last ones came as trades."""
    kept = minutes.copy()
    if about.exchange != "binance":
        kept = kept[~kept["flat"]]
    for lo, hi in about.holes:
        kept = kept[(kept.index < utc(lo)) | (kept.index >= utc(hi))]
    if about.symbol == "BTC/USDT":
        live = kept.index >= TRADES_SINCE
        kept.loc[live, "origin"] = TRADES
        kept.loc[live & (kept.index >= VERIFIED_UNTIL), "state"] = CLOSED
        kept.loc[kept.index == OPEN_MINUTE, "state"] = OPEN
        return kept
    return kept[kept.index < OPEN_MINUTE]


def longer(minutes: pd.DataFrame, tf: Timeframe, *, whole: bool) -> pd.DataFrame:
    """Bars of a longer timeframe, of flat minutes where there is nothing else; `whole`: each minute must be there."""
    length = pd.Timedelta(minutes=tf.minutes)
    how = {"o": "first", "h": "max", "l": "min", "c": "last", "v": "sum", "q": "sum", "t": "sum", "n": "sum"}
    starts = pd.Series(pd.DatetimeIndex(minutes.index).floor(length), minutes.index)
    flat = minutes["flat"]
    made = minutes[~flat].groupby(starts[~flat]).agg(how)
    rest = ~starts.isin(made.index)
    still = minutes[rest].groupby(starts[rest]).agg(how)
    made["flat"], still["flat"] = False, True
    made = pd.concat([made, still]).sort_index()
    by = minutes.groupby(starts)
    made["state"] = by["state"].min().where(by.size() == tf.minutes, OPEN) if whole else by["state"].min()
    made.loc[made.index > NOW - length, "state"] = OPEN
    made["origin"] = np.where(made["flat"], FLAT, ROLLUP)
    return made


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def prices(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column of prices as the doubles that print them."""
    return np.array([float(Decimal(int(ticks)).scaleb(-PRICE)) for ticks in frame[column]])


def sums(about: Symbol, frame: pd.DataFrame, column: str) -> list[Decimal]:
    """A column of sums, exact."""
    places = about.places + (PRICE if column == "q" else 0)
    return [Decimal(int(units)).scaleb(-places) for units in frame[column]]
