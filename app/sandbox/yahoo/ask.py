"""How Yahoo reads the parameters of a chart, and what it says of bad ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DAY_S = 86_400
NOT_FOUND = "No data found, symbol may be delisted"
INTERVALS = {"1m": 1, "2m": 2, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "1h": 60, "90m": 90, "1d": 1440}  # minutes
# Interval → days back from now it reaches, days of it in one request.
LIMITS = {"1m": (30, 8), "2m": (60, 60), "5m": (60, 60), "15m": (60, 60), "30m": (60, 60), "60m": (730, 730),
          "1h": (730, 730), "90m": (60, 60)}  # fmt: skip
RANGE_DAYS = {"1d": 1, "5d": 5, "1mo": 31, "3mo": 92, "6mo": 183, "1y": 366, "2y": 731, "5y": 1827, "10y": 3653,
              "max": 36_500}  # fmt: skip


class Refused(Exception):
    """Raised for a request Yahoo would refuse; carries status, code and description."""

    def __init__(self, status: int, code: str, description: str) -> None:
        self.status, self.code, self.description = status, code, description
        super().__init__(description)


class Ask(NamedTuple):
    """What a chart is asked for: [start, end) in UTC seconds."""

    interval: str
    minutes: int
    start_s: int
    end_s: int
    span: str  # the range's name where it was asked for by name
    prepost: bool


def read_ask(query: Mapping[str, str], *, now_s: int) -> Ask:
    """The request in a query; raises Refused in Yahoo's words."""
    interval = query.get("interval", "1d")
    if interval not in INTERVALS:
        names = ", ".join(INTERVALS)
        words = f"Invalid input - interval={interval} is not supported. Valid intervals: [{names}]"
        raise Refused(422, "Unprocessable Entity", words)
    span = "" if "period1" in query else query.get("range", "1d")
    if span:
        if span not in RANGE_DAYS:
            raise Refused(422, "Unprocessable Entity", f"Invalid input - range={span} is not supported.")
        start_s, end_s = now_s - RANGE_DAYS[span] * DAY_S, now_s + 1
    else:
        start_s, end_s = _seconds(query, "period1", 0), _seconds(query, "period2", now_s + 1)
    if end_s <= start_s:
        words = "Invalid input - start date cannot be after end date. "
        raise Refused(400, "Bad Request", f"{words}startDate = {start_s}, endDate = {end_s}")
    prepost = query.get("includePrePost", "false").lower() in ("true", "1")
    ask = Ask(interval, INTERVALS[interval], start_s, end_s, span, prepost)
    _limit(ask, now_s)
    return ask


def no_data(ask: Ask) -> Refused:
    """Yahoo's word for a stretch in which nobody could trade."""
    words = f"Data doesn't exist for startDate = {ask.start_s}, endDate = {ask.end_s}"
    return Refused(400, "Bad Request", words)


def _limit(ask: Ask, now_s: int) -> None:
    if ask.interval not in LIMITS:
        return
    back, days = LIMITS[ask.interval]
    words = f"{ask.interval} data not available for startTime={ask.start_s} and endTime={ask.end_s}."
    if ask.end_s - ask.start_s > days * DAY_S:
        allowed = f"Only {days} days worth of {ask.interval} granularity data are allowed to be fetched per request."
        raise Refused(422, "Unprocessable Entity", f"{words} {allowed}")
    if ask.start_s < now_s - back * DAY_S:
        words += f" The requested range must be within the last {back} days."
        raise Refused(422, "Unprocessable Entity", words)


def _seconds(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise Refused(400, "Bad Request", f"Invalid input - {name} = {text}") from None
