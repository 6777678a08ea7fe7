"""Charts ready to be sent: what was answered a moment ago is answered again, as long as nothing was told since.

One question to the cache shows whether it still holds: the instrument's versions (app.domain.versions). They change
before anybody is told what is new, in this process or another, so that no chart is older than what its reader may have
been told. Whatever happens in silence, a hole or a message that nobody could send, is seen after `AGE_S`: no longer
than that does the database go unasked. With the cache away nothing is remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.domain.instruments import Instrument
from app.domain.versions import Versions
from app.services.bounded import Bounded
from app.services.charts import ChartRequest
from app.services.encoded import ChartBytes

AGE_S = 1.0
MOST_NAMES = 10_000  # that instruments were asked for by

Find = Callable[[str, str | None], Instrument]
Facts = Callable[[Instrument], Mapping[str, Any]]


class Charts(Protocol):
    """app.services.charts."""

    def is_newest(self, request: ChartRequest) -> bool: ...
    def chart(
        self, instrument: Instrument, request: ChartRequest, *, versions: Versions | None = None
    ) -> ChartBytes: ...


@dataclass(frozen=True, slots=True)
class _Named:
    """What a name meant while the watchlist was at this version; an empty one matches none."""

    instrument: Instrument
    watchlist: bytes
    until_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """A chart, and what has to be the same for it to be given again."""

    chart: ChartBytes
    versions: Versions
    facts: Mapping[str, Any]
    until_s: float


class ReadyCharts:
    """Answers chart requests from memory while that holds, and else from `charts`."""

    def __init__(
        self,
        charts: Charts,
        versions: Callable[[Instrument], Versions],
        *,
        find: Find,
        facts: Facts,
        most_bytes: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._charts, self._versions, self._find, self._facts = charts, versions, find, facts
        self._now_s = now_s
        self._named: Bounded[tuple[str, str | None], _Named] = Bounded(MOST_NAMES)
        self._answers: Bounded[tuple[int, ChartRequest], _Answer] = Bounded(most_bytes)

    def named(self, symbol: str, exchange: str | None, request: ChartRequest) -> tuple[Instrument, ChartBytes]:
        """The instrument a client means and its chart; raises what `find` raises."""
        name, asked_s = (symbol, exchange), self._now_s()
        known = self._named.get(name)
        versions = Versions() if known is None else self._versions(known.instrument)
        if known is not None and versions.known and versions.watchlist == known.watchlist and asked_s < known.until_s:
            return known.instrument, self._chart(known.instrument, request, versions)
        instrument = self._find(symbol, exchange)
        # A version that was not asked for before the look guards nothing: then the name is a guess for the next time.
        self._named.set(name, _Named(instrument, versions.watchlist, asked_s + AGE_S), size=1)
        if known is None or known.instrument.id != instrument.id:
            versions = self._versions(instrument)
        return instrument, self._chart(instrument, request, versions)

    def of(self, instrument: Instrument, request: ChartRequest) -> ChartBytes:
        """The chart of an instrument."""
        return self._chart(instrument, request, self._versions(instrument))

    def _chart(self, instrument: Instrument, request: ChartRequest, versions: Versions) -> ChartBytes:
        if not (versions.known and self._charts.is_newest(request)):
            return self._charts.chart(instrument, request, versions=versions)
        key, now_s, facts = (instrument.id, request), self._now_s(), self._facts(instrument)
        kept = self._answers.get(key)
        if kept is not None and now_s < kept.until_s and (kept.versions, kept.facts) == (versions, facts):
            return kept.chart
        chart = self._charts.chart(instrument, request, versions=versions)
        answer = _Answer(chart, versions, facts, now_s + AGE_S)
        self._answers.set(key, answer, size=len(chart.body))
        return chart
