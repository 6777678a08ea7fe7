"""How Alpaca reads the parameters of a request for market data, and what it says of bad ones."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from app.sandbox.alpaca.messages import NEW_YORK
from app.sandbox.stocks.hours import ORIGIN_US
from app.wire.numbers import parse_time

MINUTE_MS, DAY_MS = 60_000, 86_400_000
DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000
FEEDS = ("sip", "iex", "delayed_sip", "otc", "boats", "overnight")
_SYMBOL = re.compile(r"[A-Z0-9.]{1,12}")
_TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# Lengths the grid of UTC holds whole: Alpaca has others too, the simulated market has not.
_MINUTES, _HOURS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30), (1, 2, 3, 4, 6, 8, 12)


class Refused(Exception):
    """Raised for a request Alpaca would refuse; carries the status and the body's code and message."""

    def __init__(self, status: int, message: str, *, code: int | None = None) -> None:
        self.status, self.message = status, message
        self.code = status * 100_000 + 10_000 if code is None else code
        super().__init__(message)


class Token(NamedTuple):
    """Where the page before ended: its last row's symbol, time and id (0 for bars)."""

    symbol: str
    time_us: int
    number: int

    def text(self) -> str:
        """As a page_token carries it."""
        return base64.urlsafe_b64encode(f"{self.symbol}|{self.time_us}|{self.number}".encode()).decode()


class Query(NamedTuple):
    """What of which stocks is asked for; both ends count, times in µs."""

    symbols: list[str]
    start_us: int
    end_us: int
    limit: int
    descending: bool
    feed: str
    token: Token | None


def read_query(values: Mapping[str, str], symbols: str, *, now_us: int) -> Query:
    """The query's parameters; without a start it is about today in New York, without an end up to now."""
    today = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(NEW_YORK).replace(hour=0, minute=0, second=0)
    start_us = _time(values, "start", round(today.replace(microsecond=0).timestamp()) * 1_000_000)
    end_us = _time(values, "end", now_us)
    if end_us < start_us:
        raise Refused(400, "end should not be before start")
    sort, feed = values.get("sort", "asc"), values.get("feed", "")
    if sort not in ("asc", "desc"):
        raise Refused(400, f"invalid sort: {sort}")
    if feed and feed not in FEEDS:
        raise Refused(400, f"invalid feed: {feed}")
    asked = sorted({symbol for symbol in symbols.split(",") if symbol})
    if not asked:
        raise Refused(400, "symbols is required")
    for symbol in asked:
        if not _SYMBOL.fullmatch(symbol):
            raise Refused(400, f"invalid symbol: {symbol}")
    page = max(start_us, ORIGIN_US), min(end_us, now_us)
    return Query(asked, *page, _limit(values), sort == "desc", feed, _token(values))


def read_timeframe(values: Mapping[str, str]) -> int:
    """The length of the bars asked for, in ms."""
    text = values.get("timeframe", "")
    if not text:
        raise Refused(400, "timeframe is required")
    found = _TIMEFRAME.fullmatch(text)
    amount, unit = (int(found[1]), found[2][0]) if found else (0, "")
    if unit in ("M", "T") and amount in _MINUTES:
        return amount * MINUTE_MS
    if unit == "H" and amount in _HOURS:
        return amount * 60 * MINUTE_MS
    if unit == "D" and amount == 1:
        return DAY_MS
    raise Refused(400, f"invalid timeframe: {text}")


def _limit(values: Mapping[str, str]) -> int:
    text = values.get("limit") or str(DEFAULT_LIMIT)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        raise Refused(400, f"invalid limit: {text}; it is 1 to {MAX_LIMIT}")
    return int(text)


def _time(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, "")
    if not text:
        return default
    try:
        return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        raise Refused(400, f"invalid {name}: {text}") from error


def _token(values: Mapping[str, str]) -> Token | None:
    text = values.get("page_token", "")
    if not text:
        return None
    try:
        symbol, time_us, number = base64.urlsafe_b64decode(text).decode().split("|")
        return Token(symbol, int(time_us), int(number))
    except (ValueError, binascii.Error) as error:
        raise Refused(400, "invalid page_token") from error
