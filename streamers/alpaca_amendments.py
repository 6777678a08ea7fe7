"""Corrections and cancels: which minute they cast doubt on."""

from __future__ import annotations

from app.domain.official import Doubt
from app.domain.timeframes import MINUTE_MS, MINUTE_US
from app.wire.alpaca_values import Cancel, Correction, Print

REMEMBERED = 200_000  # prints whose minute is known; the oldest are forgotten


class Amendments:
    """Remembers where recent prints stand.

    Alpaca documents no more of a correction's time than that it is one: the minute it names is doubted, and the minute
    of the print it takes back, as long as that is remembered.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._minutes: dict[tuple[int, str, int], int] = {}

    def remember(self, instrument_id: int, item: Print) -> None:
        """A print that entered a bar."""
        self._minutes[instrument_id, item.exchange, item.id] = item.time_us // MINUTE_US
        if len(self._minutes) > self._limit:
            del self._minutes[next(iter(self._minutes))]

    def doubts(self, instrument_id: int, item: Correction | Cancel) -> list[Doubt]:
        """The minutes to fetch again."""
        cause = "correction" if isinstance(item, Correction) else "cancel"
        numbers = (item.original.id, item.corrected.id) if isinstance(item, Correction) else (item.id,)
        known = (self._minutes.get((instrument_id, item.exchange, number)) for number in numbers)
        minutes = {item.time_us // MINUTE_US, *(minute for minute in known if minute is not None)}
        return [Doubt(instrument_id, minute * MINUTE_MS, (minute + 1) * MINUTE_MS, cause) for minute in sorted(minutes)]
