"""Yahoo Finance's history, through yfinance. No key: a cookie and a crumb, which yfinance fetches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.rollup import combine
from app.domain.timeframes import DAY_MS, Timeframe
from app.errors import SourceError
from app.wire.yahoo import Chart, Meta

if TYPE_CHECKING:
    import pandas as pd

    from app.sources.yahoo_session import YahooSession

RULE = RULES[Exchange.YAHOO]
# Timeframe → what Yahoo is asked for, and the days of it in one request. Its own hours begin with the session (09:30
# New York time), not with the hour, so that longer intraday bars are made from quarters of an hour.
ASKED: dict[Timeframe, tuple[Timeframe, int]] = {
    Timeframe.M1: (Timeframe.M1, 7),
    Timeframe.M5: (Timeframe.M5, 50),
    Timeframe.M15: (Timeframe.M15, 50),
    Timeframe.H1: (Timeframe.M15, 50),
    Timeframe.H4: (Timeframe.M15, 50),
    Timeframe.D1: (Timeframe.D1, 3650),
}
_COLUMNS = ("Open", "High", "Low", "Close", "Volume")


@dataclass(frozen=True, slots=True)
class Description:
    """What Yahoo says of one of its symbols."""

    symbol: str
    name: str
    exchange: str
    currency: str  # in Yahoo's letters: GBp are pence, GBP pounds
    price_decimals: int


class YahooHistory:
    """Bars and symbols over REST; one instance at a time, since yfinance keeps one session for all of its parts."""

    def __init__(self, settings: Settings, *, now_us: Callable[[], int]) -> None:
        """`now_us` is exchange time. yfinance (and pandas with it) is imported with the first request."""
        self._settings, self._now_us = settings, now_us
        self._opened: YahooSession | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @staticmethod
    def weight(timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> int:
        """The requests that klines of these take at most."""
        return max(1, -(-(end_ms - start_ms) // (ASKED[timeframe][1] * DAY_MS)))

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """At most `limit` closed bars that start in [start, end), oldest first; a quiet minute has none.

        A bar is closed when its end has passed by the exchange's clock less Yahoo's delay, or by the time of the last
        trade Yahoo tells of. 1d is the session's bar, under its date at 00:00 UTC. quote_volume is an estimate, typical
        price × volume, and trade_count 0: Yahoo has neither. 1m reaches about 30 days back, 5m to 4h 60. Raises
        UnknownInstrument, RateLimited, SourceAway or SourceError, with Yahoo's own word.
        """
        asked, days = ASKED[timeframe]
        start_ms, end_ms = timeframe.floor(start_ms + timeframe.ms - 1), min(end_ms, self._now_us() // 1000)
        bars: list[Bar] = []
        for lo_ms in range(start_ms, end_ms, days * DAY_MS):
            hi_ms = min(lo_ms + days * DAY_MS, end_ms)
            bars += self._page(instrument, asked, lo_ms, timeframe.floor(hi_ms + timeframe.ms - 1), timeframe)
            if len(bars) >= limit:
                break
        return [bar for bar in bars if start_ms <= bar.time_ms < end_ms][:limit]

    def describe(self, symbol: str) -> Description:
        """The symbol as Yahoo lists it; raises UnknownInstrument with Yahoo's own word."""
        meta = self._session().ask(symbol).meta
        exchange = meta.exchange_name or meta.exchange
        return Description(meta.symbol, meta.name, exchange, meta.currency, meta.price_hint)

    def _page(
        self, instrument: Instrument, asked: Timeframe, lo_ms: int, hi_ms: int, timeframe: Timeframe
    ) -> list[Bar]:
        from app.sources.yahoo_session import NoBars

        try:
            frame, chart = self._session().history(instrument.wire_symbol, asked, lo_ms, hi_ms)
        except NoBars:
            return []
        if frame is None:
            return []
        over_ms = self._over_ms(chart, asked)
        bars = [bar for bar in _bars(frame, instrument, asked) if bar.time_ms < over_ms]
        if asked is timeframe:
            return bars
        groups = groupby(bars, lambda bar: timeframe.floor(bar.time_ms))
        made = (_longer(list(group), time_ms) for time_ms, group in groups)
        source_ms = self._source_ms(chart.meta)
        return [bar for bar in made if bar.time_ms + timeframe.ms <= source_ms]

    def _source_ms(self, meta: Meta) -> int:
        """The time up to which Yahoo has everything: its last trade's, or ours less its delay."""
        now_ms = self._now_us() // 1000
        return min(now_ms, max(now_ms - RULE.delay_s * 1000, (meta.price_time_s or 0) * 1000))

    def _over_ms(self, chart: Chart, asked: Timeframe) -> int:
        """Bars that start before this are over."""
        if asked is not Timeframe.D1:
            return self._source_ms(chart.meta) - asked.ms + 1
        period = chart.meta.period
        now_ms = self._now_us() // 1000
        if period is None:
            return (now_ms - DAY_MS) // DAY_MS * DAY_MS
        date_ms = (period.start_s + chart.meta.utc_offset_s) * 1000 // DAY_MS * DAY_MS
        done_ms = (period.end_s + RULE.delay_s + RULE.history_lag_s) * 1000
        return date_ms + DAY_MS if done_ms <= now_ms else date_ms

    def _session(self) -> YahooSession:
        if self._opened is None:
            from app.sources.yahoo_session import YahooSession

            self._opened = YahooSession(self._settings.yahoo_api_url, self._settings.data_dir / "yahoo")
        return self._opened


def _bars(frame: pd.DataFrame, instrument: Instrument, tf: Timeframe) -> Iterator[Bar]:
    """The frame's rows as bars; quiet rows and the unfinished one (under its last trade's time) are left out.

    So is a row that begins at no full step; raises SourceError where several do and no other row is left.
    """
    index: Any = frame.index
    daily = tf is Timeframe.D1
    times = (index.tz_localize(None) if daily else index.tz_convert("UTC")).as_unit("ms").asi8.tolist()
    columns = [frame[name].tolist() for name in _COLUMNS]
    told = astray = 0
    for time_ms, *prices, volume in zip(times, *columns, strict=True):
        if any(price != price or price <= 0 for price in prices):
            continue
        start_ms = time_ms // DAY_MS * DAY_MS if daily else time_ms
        if tf.floor(start_ms) != start_ms:
            astray += 1
            continue
        told += 1
        yield _bar(instrument, start_ms, tf, prices, int(volume))
    if astray > 1 and not told:
        raise SourceError(f"Yahoo's {tf.value} bars of {instrument.symbol} do not begin at full {tf.value} steps")


def _bar(instrument: Instrument, time_ms: int, tf: Timeframe, prices: list[float], volume: int) -> Bar:
    """The bar, its prices rounded to the instrument's decimals: Yahoo's are 32-bit floats, 305.2500061 for 305.25."""
    opened, high, low, close = (round(price, instrument.price_decimals) for price in prices)
    typical = (Decimal(repr(high)) + Decimal(repr(low)) + Decimal(repr(close))) / 3
    amount = Decimal(volume)
    return Bar(
        instrument.id, time_ms, opened, high, low, close, amount, round(typical * amount, 8), Decimal(0), 0,
        time_ms * 1000, 0, (time_ms + tf.ms) * 1000 - 1, 0, State.VERIFIED, 0, Origin.EXCHANGE,
    )  # fmt: skip


def _longer(parts: list[Bar], time_ms: int) -> Bar:
    return replace(combine(parts, time_ms), state=State.VERIFIED, origin=Origin.EXCHANGE)
