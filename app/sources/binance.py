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
from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import RateLimited, SourceAway, SourceError, UnknownInstrument, WireError
from app.wire.binance import parse_klines

TIMEOUT_S = 10.0
MAX_KLINES = 1000
INVALID_SYMBOL = -1121
WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
DEFAULT_WAIT_S = 60.0  # where a refusal does not say how long


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What the exchange says of one of its symbols."""

    wire_symbol: str
    base: str
    quote: str
    price_decimals: int
    size_decimals: int
    trading: bool


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

    def __init__(self, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client = _rest_client(timeout_s)
        self._client.API_URL = settings.binance_api_url.rstrip("/") + "/api"
        self._clock_ms = 0
        self.used_weight = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close_connection()

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = MAX_KLINES
    ) -> list[Bar]:
        """At most `limit` closed bars that start in [start, end), oldest first.

        A bar is closed when the exchange's own clock had passed its end before the bars were asked for. Raises
        UnknownInstrument, RateLimited or SourceError.
        """
        if end_ms <= start_ms:
            return []
        if end_ms + timeframe.ms > self._clock_ms:
            self.server_time_ms()
        rows = self._ask(
            lambda: self._client.get_klines(
                symbol=instrument.wire_symbol,
                interval=timeframe.value,
                startTime=start_ms,
                endTime=end_ms - 1,
                limit=min(limit, MAX_KLINES),
            ),
            instrument.symbol,
        )
        try:
            bars = parse_klines(rows, instrument.id)
        except WireError as error:
            raise SourceError(str(error)) from error
        return [bar for bar in bars if start_ms <= bar.time_ms and bar.time_ms + timeframe.ms <= self._clock_ms]

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
                entry["status"] == "TRADING",
            )
        except (KeyError, TypeError, StopIteration) as error:
            raise SourceError(f"Binance describes {wire_symbol} in a form it does not document") from error

    def server_time_ms(self) -> int:
        """The exchange's clock."""
        answer = self._ask(self._client.get_server_time, "the time")
        self._clock_ms = int(answer["serverTime"])
        return self._clock_ms

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
        self.used_weight = int(self._client.response.headers.get(WEIGHT_HEADER, 0))
        return answer


def _refusal(error: BinanceAPIException, what: str) -> Exception:
    word = str(error.message or "no reason given")[:200]
    if error.code == INVALID_SYMBOL:
        return UnknownInstrument(f"Binance does not know {what}: {word}")
    if error.status_code in (418, 429):
        wait = error.response.headers.get("Retry-After", "")
        return RateLimited(f"Binance: {word}", retry_after_s=float(wait) if wait.isdigit() else DEFAULT_WAIT_S)
    if error.status_code >= 500:
        return SourceAway(f"Binance failed with status {error.status_code}: {word}")
    if error.code:
        return SourceError(f"Binance refused {what}: {word} (code {error.code})")
    return SourceError(f"Binance failed with status {error.status_code}")


def _places(step: str) -> int:
    """The decimals of a step: 2 for 0.01000000, 0 for 1.00000000."""
    return len(step.partition(".")[2].rstrip("0"))
