"""Trade batches: columns of trades, and their one encoding on the wire between streamer and worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from app.errors import NewerMessage, WireError

Ints = NDArray[np.int64]

VERSION = 1  # every print is regular
VERSION_UPDATES = 2  # with the column `updates`: only batches that need it, so that old and new workers read each other
REGULAR = 7  # a print that updates everything (app.domain.conditions: ALL)
SCALE = 8  # prices and sizes are integers of 1e-8, exact for every exchange here
LIMIT = 2**62


class Trade(NamedTuple):
    """One trade, or an aggregate of the trades `first`..`last` at one price; price and size in 1e-8 units.

    `updates` says by bits what it updates in a bar: high and low 1, open and close 2, volume 4 (app.domain.conditions).
    """

    instrument_id: int
    time_us: int
    first: int
    last: int
    price_e8: int
    size_e8: int
    taker_buy: bool  # the buyer took liquidity (Binance: `m` is false)
    updates: int = REGULAR


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a batch stands in its feed: batch `n` of `run` holds everything up to exchange time `upto_us`.

    `run` is one connection of a streamer, or one import. `subscribed` lists (instrument id, since_us); it is sent when
    a run begins and whenever it changes, with the batch that ends what was received until then, else None. `over` says
    that nothing follows in this run.
    """

    run: int
    n: int
    upto_us: int
    exchange: str
    kind: str = "live"  # live, import
    shard: str = "0/1"
    since_us: int = 0
    subscribed: tuple[tuple[int, int], ...] | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class TradeBatch:
    """Trades in columns of equal length, all int64 (`taker_buy` bool); any order, duplicates allowed.

    `size_scale` is the decimal scale of `size`: 8, or less where a batch has sizes too big for 8 places in 63 bits.
    `updates` (int8) is None where every print is regular.
    """

    instrument_id: Ints
    time_us: Ints
    first: Ints
    last: Ints
    price_e8: Ints
    size: Ints
    taker_buy: NDArray[np.bool_]
    mark: Mark | None = None
    size_scale: int = SCALE
    sent_us: int = 0  # wall clock at hand-over, for lag, and for what is too old (app.services.ingest)
    id: str = field(default="", compare=False)
    updates: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, trades: Iterable[Trade], *, mark: Mark | None = None, sent_us: int = 0, id: str = "") -> TradeBatch:
        """The batch of `trades`; raises WireError where a number does not fit 62 bits."""
        columns = list(zip(*trades, strict=True)) or [()] * 8
        sizes, scale = _fit(list(columns[5]))
        if any(abs(price) > LIMIT for price in columns[4]):
            raise WireError("a price is over 4.6e10, more than 62 bits of 1e-8 units hold")
        ids, times, firsts, lasts, prices = (np.array(column, np.int64) for column in columns[:5])
        flags, sizes_e8 = np.array(columns[6], np.bool_), np.array(sizes, np.int64)
        updates = None if list(columns[7]).count(REGULAR) == len(flags) else np.array(columns[7], np.int8)
        return cls(ids, times, firsts, lasts, prices, sizes_e8, flags, mark, scale, sent_us, id, updates)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> TradeBatch:
        """The batch of just these rows, same mark."""
        return replace(
            self,
            instrument_id=self.instrument_id[rows],
            time_us=self.time_us[rows],
            first=self.first[rows],
            last=self.last[rows],
            price_e8=self.price_e8[rows],
            size=self.size[rows],
            taker_buy=self.taker_buy[rows],
            updates=None if self.updates is None else self.updates[rows],
        )

    def encode(self) -> bytes:
        """The batch as msgpack: a map of header fields and little-endian columns; decode() reverses it."""
        mark = self.mark
        extra = {} if self.updates is None else {"u": self.updates.astype(np.int8).tobytes()}
        packed: bytes = msgpack.packb(
            {
                "v": VERSION_UPDATES if extra else VERSION,
                "id": self.id,
                "sent": self.sent_us,
                "scale": self.size_scale,
                "mark": None
                if mark is None
                else [
                    mark.run,
                    mark.n,
                    mark.upto_us,
                    mark.exchange,
                    mark.kind,
                    mark.shard,
                    mark.since_us,
                    mark.subscribed,
                    mark.over,
                ],
                "c": [
                    np.ascontiguousarray(column, "<i8").tobytes()
                    for column in (self.instrument_id, self.time_us, self.first, self.last, self.price_e8, self.size)
                ],
                "b": np.packbits(self.taker_buy).tobytes(),
                **extra,
            }
        )
        return packed

    @classmethod
    def decode(cls, data: bytes) -> TradeBatch:
        """The batch that encode() made; raises NewerMessage for a newer program's, WireError for anything else."""
        try:
            body = msgpack.unpackb(data, strict_map_key=True, use_list=False)
            check_version(body["v"], "trade batch", newest=VERSION_UPDATES)
            columns = [np.frombuffer(column, "<i8") for column in body["c"]]
            length = len(columns[0])
            if len(columns) != 6 or any(len(column) != length for column in columns):
                raise WireError("trade batch with columns of unequal length")
            flags = np.unpackbits(np.frombuffer(body["b"], np.uint8), count=length).astype(np.bool_)
            updates = np.frombuffer(body["u"], np.int8) if body["v"] == VERSION_UPDATES else None
            if updates is not None and len(updates) != length:
                raise WireError("trade batch with columns of unequal length")
            mark = None if body["mark"] is None else Mark(*body["mark"])
            ids, times, firsts, lasts, prices, sizes = columns
            scale, sent_us = int(body["scale"]), int(body["sent"])
            return cls(ids, times, firsts, lasts, prices, sizes, flags, mark, scale, sent_us, str(body["id"]), updates)
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise WireError(f"not a trade batch: {error}") from error


def check_version(version: object, what: str, *, newest: int) -> None:
    """Raises NewerMessage, or WireError for what no program ever wrote; versions count from 1, and all stay readable.

    Old and new processes run side by side while a platform is restarted: whoever changes a message raises its version,
    goes on reading the older ones, and writes the newest one only where an older one cannot say it.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise WireError(f"{what} without a version")
    if version > newest:
        raise NewerMessage(what, version=version, newest=newest)


def _fit(sizes: list[int]) -> tuple[list[int], int]:
    scale = SCALE
    while scale and any(abs(size) > LIMIT for size in sizes):
        if any(size % 10 for size in sizes):
            raise WireError("sizes of one batch span more than 18 digits")
        sizes = [size // 10 for size in sizes]
        scale -= 1
    if any(abs(size) > LIMIT for size in sizes):
        raise WireError("a size does not fit 62 bits")
    return sizes, scale


def e8(text: str) -> int:
    """The decimal `text` in units of 1e-8, exact; raises ValueError for more than 8 places or anything else.

    >>> e8("0.00141342")
    141342
    """
    whole, _, places = text.partition(".")
    places = places.rstrip("0") if len(places) > SCALE else places
    if len(places) > SCALE or not (
        whole.isascii() and whole.isdigit() and (not places or (places.isascii() and places.isdigit()))
    ):
        raise ValueError(f"{text!r} is not a plain decimal of at most {SCALE} places")
    return int(whole + places.ljust(SCALE, "0"))
