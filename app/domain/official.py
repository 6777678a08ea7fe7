"""The exchange's own bars as a streamer hears them, and the doubts it learns of; one encoding between processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgpack

from app.domain.bars import Bar, Origin, State
from app.domain.timeframes import Timeframe
from app.domain.trades import check_version
from app.errors import WireError

VERSION = 1


class OfficialBar(NamedTuple):
    """A closed bar by the exchange's own word; ids are None where it names none or the minute was quiet.

    `revised`: a newer word on a bar it has told before (Alpaca's updatedBars).
    """

    instrument_id: int
    timeframe: Timeframe
    time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    trade_count: int
    first_id: int | None = None
    last_id: int | None = None
    revised: bool = False

    def bar(self) -> Bar:
        """The bar as it is stored: verified, and flat only where the caller says that the exchange has flat bars."""
        start_us, first, last = self.time_ms * 1000, self.first_id or 0, self.last_id or 0
        return Bar(
            self.instrument_id, self.time_ms, self.open, self.high, self.low, self.close, self.volume,
            self.quote_volume, self.taker_buy_volume, self.trade_count, start_us, first,
            start_us + self.timeframe.ms * 1000 - 1 if self.trade_count else start_us, last, State.VERIFIED, 0,
            Origin.EXCHANGE,
        )  # fmt: skip


class Doubt(NamedTuple):
    """The exchange took back or corrected something in [lo, hi) ms of an instrument: to be fetched again at once."""

    instrument_id: int
    lo_ms: int
    hi_ms: int
    cause: str  # correction, cancel


@dataclass(frozen=True, slots=True)
class OfficialBatch:
    """What a streamer hands to the workers beside its trades."""

    exchange: str
    bars: Sequence[OfficialBar] = ()
    doubts: Sequence[Doubt] = ()

    def encode(self) -> bytes:
        """The batch as msgpack; sums travel as decimal text."""
        rows = [
            [*bar[:1], bar.timeframe.value, *bar[2:7], *(str(amount) for amount in bar[7:10]), *bar[10:]]
            for bar in self.bars
        ]
        packed: bytes = msgpack.packb(
            {"v": VERSION, "exchange": self.exchange, "bars": rows, "doubts": [list(doubt) for doubt in self.doubts]}
        )
        return packed

    @classmethod
    def decode(cls, data: bytes) -> OfficialBatch:
        """The batch that encode() made; raises NewerMessage for a newer program's, WireError for anything else."""
        try:
            body = msgpack.unpackb(data)
            check_version(body["v"], "official bars", newest=VERSION)
            bars = [
                OfficialBar(row[0], Timeframe(row[1]), *row[2:7], *(Decimal(text) for text in row[7:10]), *row[10:])
                for row in body["bars"]
            ]
            return cls(str(body["exchange"]), bars, [Doubt(*row) for row in body["doubts"]])
        except (KeyError, TypeError, ValueError, InvalidOperation, IndexError, msgpack.UnpackException) as error:
            raise WireError(f"not a batch of official bars: {error}") from error
