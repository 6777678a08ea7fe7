"""A chart as JSON bytes in pieces, so that new bars are joined to old ones without parsing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

type Column = NDArray[np.generic] | Sequence[bytes]
"""Numbers, NaN for null, or values that are JSON already."""

CUTTABLE = 256  # so many of the oldest elements can be cut off an encoded series


@dataclass(frozen=True, slots=True)
class Elements:
    """A JSON array without its brackets, with the times and ends of its first elements."""

    data: bytes
    count: int
    times: Sequence[int]  # of the first CUTTABLE elements, ms
    ends: Sequence[int]  # where each of them ends in `data`

    @classmethod
    def none(cls) -> Self:
        """An empty array."""
        return cls(b"", 0, [], [])

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """The rows, each of which begins with its "time", encoded once."""
        rows = list(rows)
        return cls._cut(orjson.dumps(rows)[1:-1], [row["time"] for row in rows])

    @classmethod
    def of_columns(cls, time_ms: NDArray[np.int64], columns: Mapping[str, Column]) -> Self:
        """The same of rows that come as columns.

        Each column is encoded at once and laid between the names: a third of what as many objects cost.
        """
        if not len(time_ms):
            return cls.none()
        names = [b',"%s":' % name.encode() for name in columns]
        parts = [part for name in (b'},{"time":', *names) for part in (name, b"")] * len(time_ms)
        step = len(parts) // len(time_ms)
        for place, values in enumerate((time_ms, *columns.values())):
            parts[2 * place + 1 :: step] = _texts(values)
        parts[0] = b'{"time":'
        parts.append(b"}")
        return cls._cut(b"".join(parts), time_ms.tolist())

    @classmethod
    def _cut(cls, data: bytes, times: Sequence[int]) -> Self:
        """With the ends of the first elements, found in the text: within a string, a quote would be escaped."""
        ends, end = [], 0
        for _ in times[:CUTTABLE]:
            end = data.find(b'},{"time":', end) + 1
            ends.append(end or len(data))
        return cls(data, len(times), list(times[:CUTTABLE]), ends)

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
    """The bars and indicators of a series up to `last_ms`, the time of its newest bar; `tag` names this content.

    It is hashed once, from what the chart was made of, so that no answer made of it has to be.
    """

    last_ms: int
    bars: Elements
    indicators: Elements
    tag: str = ""

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
    shown, beside = _between_commas(bars), _between_commas(indicators)
    return b"".join((orjson.dumps(head)[:-1], b',"bars":[', *shown, b'],"indicators":[', *beside, b"]}"))


def _between_commas(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces that hold something; not joined yet, since each copy of a chart takes its time."""
    for number, piece in enumerate(filter(None, pieces)):
        if number:
            yield b","
        yield piece


def _texts(values: Column) -> Sequence[bytes]:
    """Each value as JSON."""
    if not isinstance(values, np.ndarray):
        return values
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return orjson.dumps(native, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
