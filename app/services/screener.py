"""The screener: which instruments fit a set of conditions, by their newest completed bar and their last 24 hours.

What the conditions are tried on is a snapshot of all active instruments, read once a second and timeframe however many
clients ask; a screen itself is arithmetic on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.instruments import Instrument
from app.domain.screen_fields import DAY_FIELDS
from app.domain.screening import Condition, Order, Term, select
from app.domain.timeframes import DAY_MS, Timeframe

KEEP_S = 1.0  # how old a snapshot may be
FAR_KEEP_S = 60.0  # how long the figures of an instrument are kept that had no bar lately
SHOWN: tuple[Term, ...] = tuple(Term((name,)) for name in ("price", "change_24h", "volume_24h"))

Figures = dict[str, Any]
ReadDay = Callable[[Sequence[Instrument]], Sequence[Mapping[str, Any]]]
"""The rows of the overview for these instruments, in their order."""


class FigureStore(Protocol):
    """app.storage.screening, as far as screens are told of it."""

    def newest(
        self, conn: sa.Connection, instruments: Sequence[int], tf: Timeframe, /, *, lo_ms: int, hi_ms: int
    ) -> dict[int, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Screen:
    """What is asked: all conditions must hold; `fields` come beside those that conditions and order name."""

    tf: Timeframe
    conditions: tuple[Condition, ...] = ()
    order: Order | None = None
    fields: tuple[Term, ...] = ()
    exchange: str | None = None
    limit: int = 100

    @property
    def terms(self) -> tuple[Term, ...]:
        """What each row shows, once each: the fields asked for, then what order and conditions are made of."""
        sides = [side for condition in self.conditions for side in condition.terms]
        named = [Term((name,)) for term in sides for name in term.fields]
        ordered = [self.order.term] if self.order else []
        return tuple(dict.fromkeys([*(self.fields or SHOWN), *ordered, *named]))


@dataclass(slots=True)
class Snapshot:
    """The figures of all instruments at one moment."""

    read_at: float
    ids: frozenset[int]
    figures: dict[int, Figures]


@dataclass(frozen=True, slots=True)
class Found:
    """An instrument that fits: the start (ms) of the bar it was judged by, and the values asked for."""

    instrument: Instrument
    time_ms: int | None
    values: dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Result:
    """The best `limit` of `total` that fit, out of `of` looked at."""

    rows: list[Found]
    total: int
    of: int


@dataclass(slots=True)
class Screener:
    """Screens instruments; `day` reads what the overview knows of them."""

    connect: Callable[[], AbstractContextManager[sa.Connection]]
    store: FigureStore
    day: ReadDay
    now_ms: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    _snapshots: dict[Timeframe, Snapshot] = field(default_factory=dict)
    _far: dict[tuple[Timeframe, int], tuple[float, Figures]] = field(default_factory=dict)
    _locks: dict[Timeframe, threading.Lock] = field(default_factory=lambda: {tf: threading.Lock() for tf in Timeframe})

    def screen(self, instruments: Sequence[Instrument], screen: Screen) -> Result:
        """Which of the instruments fit, in the order asked for; raises what the database driver raises."""
        figures = self._figures(instruments, screen.tf)
        looked = [item for item in instruments if screen.exchange in (None, item.exchange.value)]
        rows = [figures.get(item.id, {}) for item in looked]
        fit = select(rows, screen.conditions)
        if screen.order is not None:
            fit = _ordered(fit, rows, screen.order)
        terms = [(str(term), term) for term in screen.terms]
        best = [
            Found(looked[place], rows[place].get("time"), {name: term.value(rows[place]) for name, term in terms})
            for place in fit[: screen.limit]
        ]
        return Result(best, len(fit), len(looked))

    def _figures(self, instruments: Sequence[Instrument], tf: Timeframe) -> dict[int, Figures]:
        """The snapshot of a timeframe, read by one caller while the others wait for it."""
        ids = frozenset(item.id for item in instruments)
        with self._locks[tf]:
            known = self._snapshots.get(tf)
            if known is None or known.ids != ids or self.monotonic() - known.read_at >= KEEP_S:
                figures = self._read(instruments, tf)  # the time comes after: a slow look is not to follow upon itself
                known = self._snapshots[tf] = Snapshot(self.monotonic(), ids, figures)
            return known.figures

    def _read(self, instruments: Sequence[Instrument], tf: Timeframe) -> dict[int, Figures]:
        ids = [item.id for item in instruments]
        now_ms = self.now_ms()
        near_ms, far_ms = now_ms - reach_ms(tf), now_ms - 10 * reach_ms(tf)
        hi_ms = now_ms + DAY_MS
        with self.connect() as conn:
            figures = self.store.newest(conn, ids, tf, lo_ms=near_ms, hi_ms=hi_ms)
            at = self.monotonic()
            missing = [key for key in ids if key not in figures]
            due = [key for key in missing if self._far.get((tf, key), (at, {}))[0] <= at]
            if due:  # weeks of chunks: not each second
                older = self.store.newest(conn, due, tf, lo_ms=far_ms, hi_ms=near_ms)
                self._far |= {(tf, key): (at + FAR_KEEP_S, older.get(key, {})) for key in due}
        figures |= {key: dict(self._far[tf, key][1]) for key in missing}
        names = [each.name for each in DAY_FIELDS]
        for item, row in zip(instruments, self.day(instruments), strict=True):
            figures[item.id] |= {name: row[name] for name in names}
        return figures


def reach_ms(tf: Timeframe) -> int:
    """How far back the newest bar of a series usually is: over a long weekend, or some bars of the timeframe."""
    return max(6 * DAY_MS, 10 * tf.ms)


def _ordered(places: Sequence[int], rows: Sequence[Figures], order: Order) -> list[int]:
    """The places by the order's term; those without it last, equals as they stood."""
    values = {place: order.term.value(rows[place]) for place in places}
    known = [(value, place) for place in places if (value := values[place]) is not None]
    known.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [place for _, place in known] + [place for place in places if values[place] is None]
