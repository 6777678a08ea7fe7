"""A chart as JSON bytes in pieces, so that new bars are joined to old ones without parsing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import orjson

CUTTABLE = 256  # so many of the oldest elements can be cut off an encoded series


@dataclass(frozen=True, slots=True)
class Elements:
    """A JSON array without its brackets, with the times and ends of its first elements."""

    data: bytes
    count: int
    times: Sequence[int]  # of the first CUTTABLE elements, ms
    ends: Sequence[int]  # where each of them ends in `data`

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """The rows, each with a "time", encoded once."""
        rows = list(rows)
        parts = [orjson.dumps(row) for row in rows]
        ends = [end - 1 for end in accumulate(len(part) + 1 for part in parts[:CUTTABLE])]
        return cls(b",".join(parts), len(parts), [row["time"] for row in rows[:CUTTABLE]], ends)

    def without(self, oldest: int) -> bytes:
        """The array without its `oldest` first elements; raises ValueError where that is more than can be cut."""
        if oldest <= 0:
            return self.data
        if oldest >= self.count:
            return b""
        if oldest > len(self.ends):
            raise ValueError(f"only the {len(self.ends)} oldest elements can be cut off, not {oldest}")
        return self.data[self.ends[oldest - 1] + 1 :]

    def before(self, time_ms: int) -> int:
        """How many of the first elements are older than `time_ms`."""
        return sum(1 for time in self.times if time < time_ms)


@dataclass(frozen=True, slots=True)
class EncodedChart:
    """The bars and indicators of a series up to `last_ms`, the time of its newest bar; `tag` names this content."""

    last_ms: int
    bars: Elements
    indicators: Elements
    tag: str = ""

    @classmethod
    def of(cls, last_ms: int, bars: Elements, indicators: Elements) -> Self:
        """The chart with its tag: hashed here once, so that no answer made of it has to be."""
        return cls(last_ms, bars, indicators, tag_of(bars.data, indicators.data))

    def dump(self) -> bytes:
        """One line of JSON with the places, then the data; read() reverses it."""
        head = {
            "last": self.last_ms,
            "tag": self.tag,
            "bars": [len(self.bars.data), self.bars.count, self.bars.times, self.bars.ends],
            "indicators": [self.indicators.count, self.indicators.times, self.indicators.ends],
        }
        return b"".join((orjson.dumps(head), b"\n", self.bars.data, self.indicators.data))

    @classmethod
    def read(cls, value: bytes | None) -> Self | None:
        """The chart that dump() made; None for anything else, which a cache may hold after an upgrade."""
        line, _, data = (value or b"").partition(b"\n")
        try:
            head = orjson.loads(line)
            length, count, times, ends = head["bars"]
            bars = Elements(data[:length], count, times, ends)
            return cls(int(head["last"]), bars, Elements(data[length:], *head["indicators"]), str(head["tag"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class ChartBytes:
    """A chart as JSON, and a word that is another one for every other content."""

    body: bytes
    tag: str


def tag_of(*parts: bytes) -> str:
    """A word for the parts, in their order."""
    found = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        found.update(len(part).to_bytes(8))
        found.update(part)
    return found.hexdigest()


def chart_json(head: Mapping[str, Any], *, bars: Iterable[bytes], indicators: Iterable[bytes]) -> bytes:
    """The chart answer from what stands before its two arrays and pieces of these, empty pieces left out."""
    begin = orjson.dumps(head)[:-1]
    joined = (b",".join(filter(None, pieces)) for pieces in (bars, indicators))
    return begin + b',"bars":[%s],"indicators":[%s]}' % tuple(joined)
