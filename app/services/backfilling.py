"""What users ask of backfills: a range for some symbols or for a whole watchlist, how far each is, and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.domain.history import Backfill, ListedBackfill
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import BackfillOver, BadInput, BadRange, UnknownBackfill
from app.services.pages import newest_ms
from app.services.retention import Retained, admit
from app.services.stores import Backfills


class Wish(NamedTuple):
    """Bars of one timeframe, [lo, hi) ms, aligned to bars; `what` begins messages about it."""

    timeframe: Timeframe
    lo_ms: int
    hi_ms: int
    what: str


@dataclass(slots=True)
class Queued:
    """What became of a wish: a backfill for each instrument by its id, and what else it brought with it."""

    backfills: dict[int, Instrument] = field(default_factory=dict)
    too_new: list[Instrument] = field(default_factory=list)  # their exchange may still add to bars so late
    kept: list[Timeframe] = field(default_factory=list)  # all bars of these from the start on are kept from now on


@dataclass(frozen=True, slots=True)
class Backfilling:
    """Takes wishes; the work itself is app.services.backfill's. `start` hints to the workers, after the commit."""

    backfills: Backfills
    retained: Retained
    start: Callable[[], None]

    def queue(
        self, connection: sa.Connection, instruments: Sequence[Instrument], wish: Wish, *, now_ms: int, keep: bool
    ) -> Queued:
        """Notes a backfill for each instrument; `now_ms` is exchange time.

        Raises NotKept where the range begins before what is kept, unless `keep`; BadRange where it holds no bar that
        is settled; BadInput without an instrument.
        """
        if not instruments:
            raise BadInput("the watchlist has no such symbol: there is nothing to fetch")
        tf, queued = wish.timeframe, Queued()
        queued.kept = admit(self.retained, connection, tf, wish.lo_ms, keep=keep, what=wish.what)
        for item in {item.id: item for item in instruments}.values():
            until_ms = min(wish.hi_ms, tf.floor(newest_ms(item.exchange, now_ms)))
            if until_ms > wish.lo_ms:
                queued.backfills[self.backfills.create(connection, item.id, tf, wish.lo_ms, until_ms)] = item
            else:
                queued.too_new.append(item)
        if not queued.backfills:
            raise BadRange(
                f"the range is too new: {moment(wish.lo_ms)} is so late that the exchange may still add to its bars"
            )
        return queued

    def cancel(self, connection: sa.Connection, backfill_id: int) -> Backfill:
        """Ends the backfill, whose stored bars stay; raises UnknownBackfill, or BackfillOver with how it ended."""
        ended = self.backfills.cancel(connection, backfill_id)
        item = self.backfills.get(connection, backfill_id)
        if item is None:
            raise UnknownBackfill(backfill_id)
        if not ended:
            raise BackfillOver(backfill_id, item.state)
        return item


def whole_bars(tf: Timeframe, lo_ms: int, hi_ms: int | None, *, now_ms: int, said: tuple[str, str]) -> tuple[int, int]:
    """The bars of [lo, hi) that are over, as (first ms, last ms exclusive); `hi` is now where it is None.

    `said` are start and end as the user wrote them. Raises BadRange where there is none.
    """
    start, end = said[0], said[1] or "now"
    hi_ms = now_ms if hi_ms is None else hi_ms
    if hi_ms < lo_ms:
        raise BadRange(f"the range is reversed: {start} is after {end}")
    if lo_ms >= now_ms:
        raise BadRange(f"the range is in the future: it starts at {start}")
    first_ms, last_ms = -(-lo_ms // tf.ms) * tf.ms, tf.floor(min(hi_ms, now_ms))
    if first_ms >= last_ms:
        raise BadRange(f"the range is empty: no {tf.value} bar lies between {start} and {end}")
    return first_ms, last_ms


def told(listed: ListedBackfill) -> dict[str, Any]:
    """How far a backfill is, as the API and `status` tell it; times in ms, `rate` in bars a second."""
    item, pace = listed.backfill, listed.backfill.pace
    return {
        "id": item.id,
        "exchange": listed.exchange,
        "symbol": listed.symbol,
        "timeframe": item.timeframe.value,
        "start": item.lo_ms,
        "end": item.hi_ms,
        "state": item.state,
        "done": round(min(max(item.share, 0.0), 1.0), 4),
        "cursor": item.cursor_ms,
        "bars": item.bars,
        "rate": None if pace.rate is None else round(pace.rate, 1),
        "left_s": None if item.over or pace.left_s is None else round(pace.left_s, 1),
        "note": note(item),
        "error": item.error,
        "asked_by": item.asked_by,
        "started": item.started_ms,
        "updated": item.updated_ms,
        "next_try": item.lease_us // 1000 if item.state == "waiting" and item.lease_us is not None else None,
        "empty_to": item.empty_to_ms,
    }


def note(item: Backfill) -> str:
    """What keeps a backfill, or how it ended; empty while nothing is to be said."""
    if item.state == "done":
        return "done" if item.empty_to_ms is None else f"done, from {moment(item.empty_to_ms)} on"
    if item.state == "waiting" and not item.error and (item.started_ms is None or (item.pace.left_s or 0) < 1):
        return "waits for its turn"  # no time that is left would say so
    return item.error or ("" if not item.over else item.state)


def moment(ms: int) -> str:
    """A time in UTC, as people write it."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
