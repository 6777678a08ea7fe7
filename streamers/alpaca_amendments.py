"""Corrections and cancels: which minutes they cast doubt on."""

from __future__ import annotations

from collections import OrderedDict

from app.domain.official import Doubt
from app.domain.timeframes import MINUTE_MS, MINUTE_US
from app.wire.alpaca_values import Cancel, Correction, Print

REMEMBERED = 100_000  # prints whose minute is known, some 30 MB; the oldest are forgotten


class Amendments:
    """Remembers in which minute recent prints stand.

    A correction names the print it takes back by its number alone: its own time is that of the correction. Where the
    print is not remembered (it came before this process did, or long ago) everything since the opening is doubted.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        # Not a plain dict, whose search for its oldest key walks over all those deleted before it.
        self._minutes: OrderedDict[tuple[int, str, int], int] = OrderedDict()

    def remember(self, instrument_id: int, item: Print) -> None:
        """A print as it came, whatever it updates."""
        self._minutes[instrument_id, item.exchange, item.id] = item.time_us // MINUTE_US
        if len(self._minutes) > self._limit:
            self._minutes.popitem(last=False)

    def doubt(self, instrument_id: int, item: Correction | Cancel, opened_ms: int | None) -> Doubt:
        """The minutes to fetch again; `opened_ms` is when the day of the message began, None where that is unknown."""
        cause = "correction" if isinstance(item, Correction) else "cancel"
        number = item.original.id if isinstance(item, Correction) else item.id
        told_ms = item.time_us // MINUTE_US * MINUTE_MS
        if (minute := self._minutes.get((instrument_id, item.exchange, number))) is not None:
            return Doubt(instrument_id, minute * MINUTE_MS, (minute + 1) * MINUTE_MS, cause)
        return Doubt(instrument_id, told_ms if opened_ms is None else opened_ms, told_ms + MINUTE_MS, cause)
