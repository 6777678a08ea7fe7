"""Numbers and times of wires that send floats, exact: the shortest decimal of a float is the exchange's own.

Every function raises ValueError (or TypeError) for what is not what it reads; the codecs make it a WireError.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import msgpack

UNIT = 10**8
_EXACT = Context(prec=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST_US = 2**52  # the year 2112


def to_e8(value: Any) -> int:
    """A number of the wire in units of 1e-8; raises ValueError for more places, a negative or what is no number."""
    if type(value) is int:
        units = value * UNIT
    elif type(value) is float:
        units = round(value * UNIT)  # raises for what is not finite
        # Below 10**15 at most one decimal of 15 digits reads back as this float: no need to print it.
        if units >= 10**15 or units / UNIT != value:
            printed = Decimal(repr(value)).scaleb(8, _EXACT)
            units = int(printed)
            if units != printed:
                raise ValueError(f"{value!r} has more than 8 places")
    else:
        raise ValueError(f"{value!r} is no number")
    if units < 0:
        raise ValueError(f"{value!r} is negative")
    return units


def from_e8(units: int) -> float:
    """The float that prints as `units` × 1e-8."""
    return units / UNIT


def whole(value: float) -> float | int:
    """The number as exchanges write sizes: an integer where it is one."""
    return int(value) if value.is_integer() else value


def size_from_e8(units: int) -> float | int:
    """The size of `units` × 1e-8, as exchanges write sizes."""
    return whole(units / UNIT)


def rfc3339(time_us: int) -> str:
    """The time as REST writes it: 2024-03-08T14:30:00.000001Z."""
    return (_EPOCH + time_us * _MICROSECOND).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """µs of an RFC 3339 text with up to nine places, the last three cut off; raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def stamp(time_us: int) -> msgpack.Timestamp:
    """The time in µs as msgpack's Timestamp."""
    seconds, rest = divmod(time_us, 1_000_000)
    return msgpack.Timestamp(seconds, rest * 1000)


def time_us_of(value: Any) -> int:
    """µs of a Timestamp of msgpack or of an RFC 3339 text."""
    if isinstance(value, msgpack.Timestamp):
        time_us: int = value.seconds * 1_000_000 + value.nanoseconds // 1000
    elif isinstance(value, str):
        time_us = parse_time(value)
    else:
        raise ValueError(f"{value!r} is no time")
    if not 0 < time_us < _LATEST_US:
        raise ValueError(f"{value!r} is out of range")
    return time_us


def price_e8(value: Any) -> int:
    """A price in units of 1e-8; zero is none."""
    units = to_e8(value)
    if not units:
        raise ValueError("a price of zero")
    return units


def plain_float(value: Any) -> float:
    """A price or size as a float: finite, not negative."""
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no price or size")
    return float(value)


def exact(value: Any) -> Decimal:
    """A size as the decimal that was sent."""
    return Decimal(repr(plain_float(value)) if type(value) is float else integer(value))


def integer(value: Any) -> int:
    """A whole number, not negative."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no whole number")
    return value


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def codes(value: Any) -> tuple[str, ...]:
    """A list of texts, empty where there is none."""
    return tuple(map(text, value)) if value else ()
