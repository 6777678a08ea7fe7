"""What is known of an instrument's newest bars: fed by messages and database reads in any order; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from app.domain.bars import Bar, Origin, State
from app.domain.rollup import live_bar
from app.domain.sessions import ALWAYS, OWN_HOURS, of_its_date
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.updates import ORIGIN_NAMES, STATE_NAMES

_STATES = {name: state for state, name in STATE_NAMES.items()}
_ORIGINS = {name: origin for origin, name in ORIGIN_NAMES.items()}
_MOST_MINUTES = 1500  # a day and a bit: what the longest live bar can be made of


def parse_bar(instrument_id: int, data: Mapping[str, Any]) -> Bar:
    """The bar of a `chart_updates` message; sums as the message has them, rounded to 8 places."""
    open_time, open_seq, close_time, close_seq = data["order"]
    return Bar(
        instrument_id=instrument_id,
        time_ms=data["time"],
        open=data["open"],
        high=data["high"],
        low=data["low"],
        close=data["close"],
        volume=Decimal(str(data["volume"])),
        quote_volume=Decimal(str(data["quote_volume"])),
        taker_buy_volume=Decimal(0),  # no message carries it, no chart shows it
        trade_count=data["trade_count"],
        open_time=open_time,
        open_seq=open_seq,
        close_time=close_time,
        close_seq=close_seq,
        state=State(_STATES.get(data["state"], State.OPEN)),
        revision=data["revision"],
        origin=Origin(_ORIGINS.get(data["origin"], Origin.TRADES)),
    )


class Board:
    """The newest minutes and stored bars of one instrument, for the timeframes in `watched`."""

    def __init__(self, calendar: str = ALWAYS) -> None:
        self._calendar = calendar
        self.watched: set[Timeframe] = set()
        self._minutes: dict[int, Bar] = {}
        self._bases: dict[Timeframe, Bar] = {}
        self._seeded: set[Timeframe] = set()

    def knows(self, tf: Timeframe) -> bool:
        """Whether the timeframe's live bar can be told: 1m always, the others once the database was read."""
        return tf is Timeframe.M1 or tf in self._seeded

    def add_minute(self, bar: Bar) -> bool:
        """Take in a 1m bar; False for one older than what is known of its minute.

        Messages of several workers cross each other: a bar only grows until it is revised.
        """
        known = self._minutes.get(bar.time_ms)
        if known is not None and _rank(bar) < _rank(known):
            return False
        self._minutes[bar.time_ms] = bar
        if len(self._minutes) > _MOST_MINUTES:
            del self._minutes[min(self._minutes)]
        return True

    def add_base(self, tf: Timeframe, bar: Bar) -> None:
        """Take in a stored bar of a longer timeframe; the newest one counts."""
        known = self._bases.get(tf)
        if known is None or _place(bar) >= _place(known):
            self._bases[tf] = bar
            self._forget_minutes()

    def seed(self, tf: Timeframe, base: Bar | None, minutes: Sequence[Bar]) -> None:
        """Take in what the database says; messages that came meanwhile are not undone."""
        self._seeded.add(tf)
        for minute in minutes:
            self.add_minute(minute)
        if base is not None and tf is not Timeframe.M1:
            self.add_base(tf, base)

    def clear(self) -> None:
        """Forget all bars, when messages may have been missed."""
        self._minutes.clear()
        self._bases.clear()
        self._seeded.clear()

    def unwatch(self, tf: Timeframe) -> None:
        """Nobody looks at the timeframe any more."""
        self.watched.discard(tf)
        self._seeded.discard(tf)
        self._bases.pop(tf, None)

    def live(self, tf: Timeframe) -> Bar | None:
        """The newest bar of the timeframe as it stands this moment."""
        minutes = self._minutes
        if tf is Timeframe.D1 and self._calendar in OWN_HOURS:  # a stock's day holds its own session only
            minutes = {time: bar for time, bar in minutes.items() if of_its_date(self._calendar, time)}
        if not minutes:
            return self._bases.get(tf)
        if tf is Timeframe.M1:
            return minutes[max(minutes)]
        bucket = tf.floor(max(minutes))
        inside = [minutes[time] for time in sorted(minutes) if time >= bucket]
        return live_bar(self._bases.get(tf), inside, tf)

    def _forget_minutes(self) -> None:
        """Drop the minutes that every watched timeframe holds already."""
        longer = self.watched - {Timeframe.M1}
        if not longer <= self._bases.keys():
            return
        last_trade_ms = min(self._bases[tf].close_time for tf in longer) // 1000 if longer else 0
        keep_from = min(last_trade_ms - last_trade_ms % MINUTE_MS, max(self._minutes, default=0))
        for time in [time for time in self._minutes if time < keep_from]:
            del self._minutes[time]


def _rank(bar: Bar) -> tuple[int, bool, int]:
    return (bar.revision, bar.state is not State.OPEN, bar.trade_count)


def _place(bar: Bar) -> tuple[int, int, int, int]:
    return (bar.time_ms, bar.revision, bar.close_time, bar.close_seq)
