"""Binance's history, through python-binance's REST client. Public data: no key is sent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from app.config import Settings
from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import Forbidden, RateLimited, SourceAway, SourceError, UnknownInstrument, WireError
from app.wire.binance_history import parse_klines
from app.wire.binance_klines import parse_columns

TIMEOUT_S = 10.0
MAX_KLINES = 1000  # a page
KLINES_WEIGHT, TIME_WEIGHT, INFO_WEIGHT = 2, 1, 20
INVALID_SYMBOL = -1121
WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
DEFAULT_WAIT_S = 60.0  # where a refusal does not say how long
LONGEST_WAIT_S = 3 * 86_400.0  # no ban is longer


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What the exchange says of one of its symbols."""

    wire_symbol: str
    base: str
    quote: str
    price_decimals: int
    size_decimals: int
    status: str  # TRADING, or why not: HALT, BREAK, …

    @property
    def trading(self) -> bool:
        """Whether it is traded."""
        return self.status == "TRADING"


def _rest_client(timeout_s: float) -> Client:
    """python-binance's client for requests only.

    Its base makes an event loop for streams, makes it the thread's own and leaves it open. So it is made in a thread
    that ends, and the loop is closed there.
    """

    def make() -> Client:
        client = Client(ping=False, requests_params={"timeout": timeout_s})
        client.loop.close()
        return client

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


class BinanceHistory:
    """Klines and symbols over REST; one instance per thread."""

    def __init__(
        self, settings: Settings, *, now_us: Callable[[], int] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`now_us` is the platform's exchange time: where the exchange's own clock is ahead of it, it decides."""
        self._client = _rest_client(timeout_s)
        self._client.API_URL = settings.binance_api_url.rstrip("/") + "/api"
        self._now_us = now_us
        self._closed_ms = 0  # bars that end up to here are closed
        self.used_weight = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close_connection()

    def weight(self, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> int:
        """The request weight klines() of this stretch will cost at most."""
        if end_ms <= start_ms:
            return 0
        pages = -(-max(1, min(limit, (end_ms - start_ms) // timeframe.ms)) // MAX_KLINES)
        return pages * KLINES_WEIGHT + (TIME_WEIGHT if self._unsure(timeframe, end_ms) else 0)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = MAX_KLINES
    ) -> list[Bar]:
        """At most `limit` closed bars that start in [start, end), oldest first, page after page.

        A bar is closed when the exchange's own clock had passed its end before the bars were asked for: it is asked
        only where the stretch goes beyond what it said last. Raises UnknownInstrument, RateLimited, SourceAway (no
        answer, or one that is broken), SourceError.
        """
        bars: list[Bar] = []
        if end_ms > start_ms and self._unsure(timeframe, end_ms):
            self.server_time_ms()
        while start_ms < end_ms and len(bars) < limit:
            wanted = min(limit - len(bars), MAX_KLINES)
            page = self._page(instrument, timeframe, start_ms, end_ms, wanted)
            bars += [bar for bar in page if bar.time_ms + timeframe.ms <= self._closed_ms]
            if len(page) < wanted or bars[-1:] != page[-1:]:
                break  # the end of the stretch, or of what is closed
            start_ms = page[-1].time_ms + timeframe.ms
        return bars

    def _unsure(self, timeframe: Timeframe, end_ms: int) -> bool:
        """Whether the last bar that starts before `end_ms` may have closed since the clock was asked."""
        return -(-end_ms // timeframe.ms) * timeframe.ms > self._closed_ms

    def page(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = MAX_KLINES
    ) -> BarColumns:
        """As klines(), one page of at most 1,000 bars, as columns."""
        if end_ms <= start_ms:
            return BarColumns.of(instrument.id, [])
        if self._unsure(timeframe, end_ms):
            self.server_time_ms()
        rows = self._rows(instrument, timeframe, start_ms, end_ms, min(limit, MAX_KLINES))
        try:
            columns = parse_columns(rows, instrument.id)
        except WireError as error:
            raise SourceAway(f"Binance answered {instrument.symbol} with a broken reply: {error}") from error
        if len(columns) != len(columns.between(start_ms, end_ms)):
            raise SourceAway(f"Binance answered {instrument.symbol} with other klines than those asked for")
        return columns.between(start_ms, self._closed_ms - timeframe.ms + 1)

    def _page(self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> list[Bar]:
        rows = self._rows(instrument, timeframe, start_ms, end_ms, limit)
        try:
            bars = parse_klines(rows, instrument.id)
        except WireError as error:
            raise SourceAway(f"Binance answered {instrument.symbol} with a broken reply: {error}") from error
        times = [bar.time_ms for bar in bars]
        if times != sorted(set(times)) or any(not start_ms <= time_ms < end_ms for time_ms in times):
            raise SourceAway(f"Binance answered {instrument.symbol} with other klines than those asked for")
        return bars

    def _rows(self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int) -> Any:
        return self._ask(
            lambda: self._client.get_klines(
                symbol=instrument.wire_symbol,
                interval=timeframe.value,
                startTime=start_ms,
                endTime=end_ms - 1,
                limit=limit,
            ),
            instrument.symbol,
        )

    def exchange_info(self, wire_symbol: str) -> SymbolInfo:
        """The symbol as the exchange lists it; raises UnknownInstrument with the exchange's own word."""
        answer = self._ask(lambda: self._client._get("exchangeInfo", data={"symbol": wire_symbol}), wire_symbol)
        try:
            entry = next(symbol for symbol in answer["symbols"] if symbol["symbol"] == wire_symbol)
            filters = {item["filterType"]: item for item in entry["filters"]}
            return SymbolInfo(
                wire_symbol,
                entry["baseAsset"],
                entry["quoteAsset"],
                _places(filters["PRICE_FILTER"]["tickSize"]),
                _places(filters["LOT_SIZE"]["stepSize"]),
                str(entry["status"]),
            )
        except (KeyError, TypeError, StopIteration) as error:
            raise SourceError(f"Binance describes {wire_symbol} in a form it does not document") from error

    def server_time_ms(self) -> int:
        """The exchange's clock."""
        answer = self._ask(self._client.get_server_time, "the time")
        try:
            time_ms = int(answer["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise SourceAway("Binance answered the time with a broken reply") from error
        # An exchange whose clock is ahead would have us take an unfinished bar for a closed one.
        self._closed_ms = time_ms if self._now_us is None else min(time_ms, self._now_us() // 1000)
        return time_ms

    def _ask(self, call: Callable[[], Any], what: str) -> Any:
        """What `call` answers; its errors as ours, without the address and headers of the request."""
        try:
            answer = call()
        except BinanceAPIException as error:
            raise _refusal(error, what) from error
        except BinanceRequestException as error:
            raise SourceAway(f"Binance answered {what} with what is not JSON") from error
        except requests.RequestException as error:
            raise SourceAway(f"Binance does not answer ({type(error).__name__})") from None
        except AttributeError as error:  # the library's own, on an error body that is JSON but no object
            raise SourceAway(f"Binance refused {what} in a form it does not document") from error
        used = self._client.response.headers.get(WEIGHT_HEADER, "")
        self.used_weight = int(used) if used.isdecimal() else 0
        return answer


def _refusal(error: BinanceAPIException, what: str) -> Exception:
    word = str(error.message or "no reason given")[:200]
    if error.code == INVALID_SYMBOL:
        return UnknownInstrument(f"Binance does not know {what}: {word}")
    match error.status_code:
        case 429 | 418 | 403:  # too much, banned for it, stopped by the web firewall
            return RateLimited(f"Binance: {word}", retry_after_s=_wait_s(error.response.headers.get("Retry-After", "")))
        case 401 | 451:  # a key it refuses, a country it does not serve
            return Forbidden(f"Binance refuses us: {word}")
        case status if status >= 500 or not error.code:
            return SourceAway(f"Binance failed with status {status}: {word}")
    return SourceError(f"Binance refused {what}: {word} (code {error.code})")


def _wait_s(header: str) -> float:
    """The seconds of a Retry-After header."""
    return min(float(header), LONGEST_WAIT_S) if header.isdecimal() else DEFAULT_WAIT_S


def _places(step: str) -> int:
    """The decimals of a step: 2 for 0.01000000, 0 for 1.00000000."""
    return len(step.partition(".")[2].rstrip("0"))
