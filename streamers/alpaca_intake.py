"""What the messages of a run mean: prints become numbered trades, the rest goes where it belongs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from app.domain.conditions import LAST, Verdict, judge
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS
from app.domain.trades import Trade
from app.wire.alpaca_values import BarEvent, Cancel, Correction, Message, Print, Quote, Status
from streamers.alpaca_amendments import Amendments
from streamers.alpaca_board import Board
from streamers.alpaca_hours import Hours, Place
from streamers.buffer import Buffer
from streamers.officials import Officials
from streamers.pace import Pace
from streamers.stats import Stats


@dataclass(frozen=True, slots=True)
class Parts:
    """What connections hand their messages to, and what they ask."""

    buffer: Buffer
    officials: Officials
    board: Board
    hours: Hours
    amendments: Amendments
    stats: Stats
    pace: Pace
    most: int  # trades a batch


@lru_cache(maxsize=1024)
def _judge(conditions: tuple[str, ...], tape: str, extended: bool) -> Verdict:
    return judge(conditions, tape, extended=extended)


class Intake:
    """Takes the messages of one run; `trades` are those not handed on yet."""

    def __init__(self, parts: Parts) -> None:
        self.trades: list[Trade] = []
        self.event_us = 0  # the newest time of a message
        self._parts, self._stats = parts, parts.stats
        self._counted: dict[int, int] = {}  # instrument id → its prints so far

    def take(self, message: Message, instrument: Instrument) -> None:
        """One message about an instrument that is followed."""
        if isinstance(message, Print):
            self._heard(message.time_us)
            self._print(message, instrument)
        elif isinstance(message, Quote):
            self._heard(message.time_us)
            self._parts.board.quote(instrument.key, message)
        elif isinstance(message, BarEvent):
            self._bar(message, instrument)
        elif isinstance(message, Correction | Cancel):
            self._amend(message, instrument)
        elif isinstance(message, Status):
            self._parts.board.status(instrument.key, message)

    def _amend(self, message: Correction | Cancel, instrument: Instrument) -> None:
        opened_ms = self._parts.hours.opened(instrument.calendar, message.time_us // 1000)
        doubt = self._parts.amendments.doubt(instrument.id, message, opened_ms)
        if doubt.hi_ms - doubt.lo_ms > MINUTE_MS:
            self._stats.count("amended_unknown")
        if self._parts.hours.place(instrument.calendar, doubt.lo_ms) is not Place.OUTSIDE:
            self._parts.officials.doubt(doubt)

    def _heard(self, time_us: int) -> None:
        self.event_us = max(self.event_us, time_us)
        self._stats.last_event_us = self.event_us

    def _print(self, item: Print, instrument: Instrument) -> None:
        self._parts.amendments.remember(instrument.id, item)
        place = self._parts.hours.place(instrument.calendar, item.time_us // 1000)
        if place is Place.OUTSIDE:
            self._stats.count("outside_session")
            return
        updates, unknown = _judge(item.conditions, item.tape, place is Place.EXTENDED)
        if unknown:
            self._stats.count("unknown_condition", unknown)
        if not updates:
            self._stats.count("not_in_bars")
            return
        if updates & LAST:
            self._parts.board.traded(instrument.key, item.time_us)
        number = self._counted[instrument.id] = self._counted.get(instrument.id, 0) + 1
        trade = Trade(
            instrument.id, item.time_us, number, number, item.price_e8, item.size_e8, taker_buy=False, updates=updates
        )
        self._stats.trades += 1
        self.trades.append(trade)

    def _bar(self, event: BarEvent, instrument: Instrument) -> None:
        time_ms = event.bar.time_ms
        if event.kind == "d" or time_ms % MINUTE_MS:
            return
        if self._parts.hours.place(instrument.calendar, time_ms) is Place.OUTSIDE:
            self._stats.count("bar_outside_session")
            return
        self._parts.officials.put(event.bar.official(instrument.id, revised=event.kind == "u"))
