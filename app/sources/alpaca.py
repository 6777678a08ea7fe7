"""Alpaca's history and assets over REST, through alpaca-py's clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from urllib.parse import quote

import requests
from alpaca.common.exceptions import APIError
from alpaca.data.enums import Adjustment, DataFeed
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from requests.adapters import HTTPAdapter

from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.instruments import Instrument
from app.domain.rollup import combine
from app.domain.sessions import Session, Window, clipped, windows
from app.domain.timeframes import Timeframe
from app.errors import ConfigError, Forbidden, RateLimited, SourceAway, SourceError, UnknownInstrument, WireError
from app.wire.alpaca import parse_asset, parse_bar_rows
from app.wire.alpaca_values import Asset

TIMEOUT_S = 10.0
PAGE = 10_000  # bars of an answer, at most
DEFAULT_WAIT_S, LONGEST_WAIT_S = 60.0, 300.0  # where a refusal does not say how long, and where it says nonsense
MIDNIGHT_MS = 6 * 3_600_000  # New York's midnight, by which daily bars are labelled, comes so late at most in UTC

# What is asked for. Alpaca's own hours hold prints from before the opening, and its four hours begin at New York's
# midnight: longer bars are made from quarters of an hour, which begin and end with the session.
ASKED = {
    Timeframe.M1: Timeframe.M1,
    Timeframe.M5: Timeframe.M5,
    Timeframe.M15: Timeframe.M15,
    Timeframe.H1: Timeframe.M15,
    Timeframe.H4: Timeframe.M15,
    Timeframe.D1: Timeframe.D1,
}

type Sessions = Callable[[str, int, int], Sequence[Session]]  # calendar, [lo, hi) ms


class _Impatient(HTTPAdapter):
    """Gives every request a timeout: the library has none."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """As the library sends, but not for ever."""
        return super().send(request, *args, **{**options, "timeout": self._timeout_s})


class AlpacaHistory:
    """Bars and assets over REST; one instance per thread."""

    def __init__(
        self, settings: Settings, *, sessions: Sessions, now_us: Callable[[], int], timeout_s: float = TIMEOUT_S
    ) -> None:
        """`sessions` looks up a calendar's days, `now_us` is exchange time; raises ConfigError without keys."""
        if settings.alpaca_keys is None:
            raise ConfigError("Alpaca needs a key: set ALPACA_API_KEY and ALPACA_SECRET_KEY")
        self._settings, self._sessions, self._now_us = settings, sessions, now_us
        data_url, trading_url = settings.alpaca_api_url.rstrip("/"), settings.alpaca_trading_url.rstrip("/")
        self._data = StockHistoricalDataClient(*settings.alpaca_keys, raw_data=True, url_override=data_url)
        self._trading = TradingClient(*settings.alpaca_keys, raw_data=True, url_override=trading_url)
        for client in (self._data, self._trading):
            client._retry = 0  # it would sleep and ask again by itself, past our budget
            for scheme in ("http://", "https://"):
                client._session.mount(scheme, _Impatient(timeout_s))

    def close(self) -> None:
        """Close the connections."""
        for client in (self._data, self._trading):
            client._session.close()

    @staticmethod
    def weight(timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> int:
        """The requests klines() of this stretch will take, if no page ends early."""
        bars = min((end_ms - start_ms) // ASKED[timeframe].ms, limit * _ratio(timeframe))
        return max(1, -(-bars // PAGE)) if end_ms > start_ms else 0

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        """At most `limit` closed bars that start in [start, end), oldest first; a quiet minute has none.

        Bars outside the sessions are left out (EXTENDED_HOURS keeps the extended ones). 1d is the session's own bar,
        under its date at 00:00 UTC, closed once the session is over. quote_volume follows from the exchange's rounded
        vwap. Raises UnknownInstrument, Forbidden, RateLimited, SourceAway or SourceError, with Alpaca's own word.
        """
        now_ms = self._now_us() // 1000
        start_ms, end_ms = timeframe.floor(start_ms + timeframe.ms - 1), min(end_ms, now_ms)
        if start_ms >= end_ms:
            return []
        # The last bar of a longer timeframe is made from what lies after `end_ms` too.
        hi_ms = timeframe.floor(end_ms + timeframe.ms - 1)
        found = self._sessions(instrument.calendar, start_ms, hi_ms)
        kept: list[Bar] = []
        for page in self._pages(instrument, ASKED[timeframe], start_ms, hi_ms, limit * _ratio(timeframe)):
            kept += self._inside(page, ASKED[timeframe], instrument.calendar, found)
            if kept and len({timeframe.floor(bar.time_ms) for bar in kept}) > limit:
                break  # the bar after the last one that is wanted has begun
        bars = kept if ASKED[timeframe] is timeframe else _longer(kept, timeframe)
        over = {session.date_ms: session.close_ms for session in found} if timeframe is Timeframe.D1 else {}
        closed = (bar for bar in bars if over.get(bar.time_ms, bar.time_ms + timeframe.ms) <= now_ms)
        return [bar for bar in closed if bar.time_ms < end_ms][:limit]

    def asset(self, symbol: str) -> Asset:
        """The symbol as Alpaca lists it; raises UnknownInstrument with its own word."""
        answer = self._ask(lambda: self._trading.get_asset(quote(symbol, safe="")), symbol)
        try:
            return parse_asset(answer)
        except WireError as error:
            raise SourceAway(str(error)) from error

    def _pages(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, most: int
    ) -> Iterator[list[Bar]]:
        """Pages of bars that start in [start, end), whatever their hours."""
        size = max(1, min(PAGE, most))
        shift_ms = MIDNIGHT_MS if timeframe is Timeframe.D1 else 0
        while start_ms < end_ms:
            rows = self._rows(instrument, timeframe, start_ms, end_ms + shift_ms, size)
            try:
                parsed = parse_bar_rows(instrument.wire_symbol, rows, daily=timeframe is Timeframe.D1)
            except WireError as error:
                raise SourceAway(f"Alpaca answered {instrument.symbol} with a broken reply: {error}") from error
            yield [row.official(instrument.id, timeframe).bar() for row in parsed if start_ms <= row.time_ms < end_ms]
            if len(rows) < size or parsed[-1].time_ms < start_ms:
                return
            start_ms = parsed[-1].time_ms + timeframe.ms

    def _rows(self, instrument: Instrument, timeframe: Timeframe, lo_ms: int, hi_ms: int, size: int) -> list[Any]:
        request = StockBarsRequest(
            symbol_or_symbols=instrument.wire_symbol,
            timeframe=_named(timeframe),
            start=datetime.fromtimestamp(lo_ms / 1000, UTC),
            end=datetime.fromtimestamp((hi_ms - 1) / 1000, UTC),  # its end is part of the stretch
            limit=size,
            adjustment=Adjustment.RAW,
            feed=DataFeed(self._settings.alpaca_feed),
        )
        found = self._ask(lambda: self._data.get_stock_bars(request), instrument.symbol)
        rows: list[Any] = found.get(instrument.wire_symbol) or []
        return rows

    def _inside(self, bars: Sequence[Bar], timeframe: Timeframe, calendar: str, found: Sequence[Session]) -> list[Bar]:
        """The bars of the sessions; all of them where no session is known."""
        if timeframe is Timeframe.D1 or not (found and bars):
            return list(bars)
        open_hours = windows(calendar, found, extended=self._settings.extended_hours)
        return list(_within(bars, clipped(bars[0].time_ms, bars[-1].time_ms + timeframe.ms, open_hours)))

    def _ask(self, call: Callable[[], Any], what: str) -> Any:
        """What `call` answers; its errors as ours, without the address and headers of the request."""
        try:
            return call()
        except APIError as error:
            raise _refusal(error, what) from None
        except requests.exceptions.JSONDecodeError as error:
            raise SourceAway(f"Alpaca answered {what} with what is not JSON") from error
        except requests.RequestException as error:
            raise SourceAway(f"Alpaca does not answer ({type(error).__name__})") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # raised by the library on a broken answer
            raise SourceAway(f"Alpaca answered {what} in a form it does not document") from error


def _refusal(error: APIError, what: str) -> SourceError | UnknownInstrument:
    word, status = _word(error), error.status_code or 0
    if status in (401, 403):
        return Forbidden(f"Alpaca refuses our key or subscription: {word}")
    if status in (418, 429):
        return RateLimited(f"Alpaca: {word}", retry_after_s=_wait_s(error))
    if status >= 500:
        return SourceAway(f"Alpaca failed with status {status}: {word}")
    if status == 404 or (status in (400, 422) and "symbol" in word.lower()):
        return UnknownInstrument(f"Alpaca does not know {what}: {word}")
    return SourceError(f"Alpaca refused {what}: {word} (status {status})")


def _word(error: APIError) -> str:
    try:
        word = error.message
    except (ValueError, KeyError, TypeError):  # not JSON, or not its error's shape
        word = ""
    return str(word or "no reason given")[:200]


def _wait_s(error: APIError) -> float:
    """How long to rest: until X-RateLimit-Reset (Unix seconds), or as Retry-After says."""
    headers = error.response.headers if error.response is not None else {}
    reset, after = headers.get("X-RateLimit-Reset", ""), headers.get("Retry-After", "")
    if after.isdecimal():
        return min(float(after), LONGEST_WAIT_S)
    if reset.isdecimal() and 0 < (left_s := int(reset) - time.time()) <= LONGEST_WAIT_S:
        return left_s
    return DEFAULT_WAIT_S


def _named(timeframe: Timeframe) -> TimeFrame:
    if timeframe is Timeframe.D1:
        return TimeFrame(1, TimeFrameUnit.Day)
    return TimeFrame(timeframe.minutes, TimeFrameUnit.Minute)


def _ratio(timeframe: Timeframe) -> int:
    return timeframe.minutes // ASKED[timeframe].minutes


def _within(bars: Sequence[Bar], open_hours: Sequence[Window]) -> Iterator[Bar]:
    """The bars that start inside the windows, both oldest first."""
    left = iter(open_hours)
    window = next(left, None)
    for bar in bars:
        while window is not None and window.hi_ms <= bar.time_ms:
            window = next(left, None)
        if window is not None and window.lo_ms <= bar.time_ms:
            yield bar


def _longer(parts: Sequence[Bar], timeframe: Timeframe) -> list[Bar]:
    groups = groupby(parts, lambda bar: timeframe.floor(bar.time_ms))
    return [
        replace(combine(list(group), time_ms), state=State.VERIFIED, origin=Origin.EXCHANGE)
        for time_ms, group in groups
    ]
