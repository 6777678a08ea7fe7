"""What charts need of storage and cache."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from app.domain.bars import Bar
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.domain.versions import Versions


class BarStore(Protocol):
    """Stored bars: the newest `limit` of [start_ms, end_ms), oldest first; as columns too, those that charts show."""

    def read(
        self,
        conn: sa.Connection,
        instrument_id: int,
        tf: Timeframe,
        /,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Bar]: ...
    def columns(self, conn: sa.Connection, instrument_id: int, tf: Timeframe, /, *, limit: int) -> NDArray[np.void]: ...


class IndicatorStore(Protocol):
    """Stored indicators of [start_ms, end_ms), oldest first: {"time": ms, name: value or None}, or columns with NaN."""

    def read(
        self, conn: sa.Connection, instrument_id: int, tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[dict[str, Any]]: ...
    def columns(
        self, conn: sa.Connection, instrument_id: int, tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> NDArray[np.void]: ...


class ChartCache(Protocol):
    """Encoded charts, each usable only while its instrument's generation is the one it was read under."""

    def versions(self, instrument: Instrument) -> Versions: ...
    def get(self, instrument: Instrument, timeframe: Timeframe, *, generation: bytes) -> bytes | None: ...
    def put(self, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes) -> None: ...


class GapReader(Protocol):
    """The gaps of a series that touch [lo, hi), as charts show them."""

    def of(
        self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, /, *, lo_ms: int | None, hi_ms: int | None
    ) -> list[dict[str, Any]]: ...
