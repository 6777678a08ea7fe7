"""Retention: what is older than it is kept is let go; and a stretch that would be is not fetched unasked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import sqlalchemy as sa
from loguru import logger

from app.domain.keeping import slice_ms
from app.domain.timeframes import DAY_MS, Timeframe
from app.errors import NotKept
from app.services.ports import Publisher
from app.services.stores import Pairs

LOCK = 7030
TURN_S = 5.0  # of deleting, then other tasks have their turn


class Retained(Protocol):
    """app.storage.retention."""

    def cutoffs(self, connection: sa.Connection, /, *, hold: bool = ...) -> dict[Timeframe, int]: ...
    def keep_from(self, connection: sa.Connection, timeframes: Collection[Timeframe], since_ms: int, /) -> None: ...
    def let_go(self, connection: sa.Connection, tf: Timeframe, cutoff_ms: int, /) -> None: ...
    def by_job(self, connection: sa.Connection, /) -> bool: ...
    def oldest(self, connection: sa.Connection, tf: Timeframe, cutoff_ms: int, /) -> Pairs: ...
    def delete(
        self, connection: sa.Connection, tf: Timeframe, instrument_id: int, lo_ms: int, hi_ms: int, /
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Retention:
    """Deletes by the table `retention`; `store` is app.storage.retention, `exclusive` app.storage.holes.exclusive."""

    engine: sa.Engine
    store: Retained
    exclusive: Callable[[sa.Connection, int], bool]
    publisher: Publisher

    def run(self) -> bool:
        """A turn: claims end first, then bars go, series by series; True where more is left.

        Does nothing on TimescaleDB, which drops whole chunks in a job of its own.
        """
        with self.engine.begin() as connection:
            if not self.exclusive(connection, LOCK) or self.store.by_job(connection):
                return False
            cutoffs = self.store.cutoffs(connection, hold=True)
            for tf, cutoff_ms in cutoffs.items():
                self.store.let_go(connection, tf, cutoff_ms)
        end = monotonic() + TURN_S
        for tf, cutoff_ms in cutoffs.items():
            gone, more = self._delete(tf, cutoff_ms, end)
            if gone:
                self.publisher.count("bars_let_go", gone)
                logger.info("{:,} bars of {} are not kept any longer and were deleted", gone, tf.value)
            if more:
                return True
        return False

    def _delete(self, tf: Timeframe, cutoff_ms: int, end: float) -> tuple[int, bool]:
        """How many bars were deleted, and whether time ran out first."""
        gone = 0
        with self.engine.begin() as connection:
            series = self.store.oldest(connection, tf, cutoff_ms)
        for instrument_id, first_ms in series:
            for lo_ms in range(first_ms // DAY_MS * DAY_MS, cutoff_ms, slice_ms(tf)):
                if monotonic() > end:
                    return gone, True
                with self.engine.begin() as connection:
                    if not self.exclusive(connection, LOCK):
                        return gone, False  # another turn is at it
                    # Looked up again: meanwhile somebody may have asked to keep it.
                    hi_ms = min(lo_ms + slice_ms(tf), self.store.cutoffs(connection, hold=True).get(tf, 0))
                    if lo_ms < hi_ms:
                        gone += self.store.delete(connection, tf, instrument_id, lo_ms, hi_ms)
        return gone, False


def admit(
    store: Retained, connection: sa.Connection, tf: Timeframe, start_ms: int, *, keep: bool, what: str
) -> list[Timeframe]:
    """Lets bars of `tf` from `start_ms` on come in, to stay; raises NotKept where they would be deleted again.

    What 1m bars are rolled up into has to stay as well: nothing is made of bars that are let go. With `keep` all of it
    is kept from that day on instead: returns the timeframes of which that is new. `what` begins the message: a
    backfill, a file.
    """
    cutoffs = store.cutoffs(connection)
    made = tuple(Timeframe) if tf is Timeframe.M1 else (tf,)
    last = max(made, key=lambda item: cutoffs.get(item, 0))  # of several the first
    if start_ms >= cutoffs.get(last, start_ms):
        return []
    if not keep:
        raise NotKept(what, last.value, asked=tf.value, start_ms=start_ms, kept_ms=cutoffs[last])
    since_ms = start_ms // DAY_MS * DAY_MS
    moved = [item for item in made if cutoffs.get(item, 0) > since_ms]
    store.keep_from(connection, moved, since_ms)
    return moved
