"""The settled part of the newest charts: kept in this process and in the cache, under their generation."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.services.bounded import Bounded
from app.services.chart_ports import ChartCache
from app.services.encoded import EncodedChart

AGE_S = 60.0  # in this process; then the cache is asked, which forgets by a time to live of its own


class SettledCharts:
    """Finds and keeps them; without a generation, as with the cache away, there is none and none is kept.

    `later` does what no answer waits for: putting a chart into the cache.
    """

    def __init__(self, cache: ChartCache, *, most_bytes: int, later: Callable[[Callable[[], None]], None]) -> None:
        self._cache, self._later = cache, later
        self._memory: Bounded[tuple[int, Timeframe], tuple[bytes, EncodedChart, float]] = Bounded(most_bytes)

    def find(self, instrument: Instrument, tf: Timeframe, *, generation: bytes) -> EncodedChart | None:
        """The chart of this generation."""
        if not generation:
            return None
        kept = self._memory.get((instrument.id, tf))
        if kept is not None and kept[0] == generation and time.monotonic() < kept[2]:
            return kept[1]
        chart = EncodedChart.read(self._cache.get(instrument, tf, generation=generation))
        if chart is not None:
            self._remember(instrument, tf, chart=chart, generation=generation)
        return chart

    def keep(self, instrument: Instrument, tf: Timeframe, *, chart: EncodedChart, generation: bytes) -> None:
        """Keep a chart that was read from the database after this generation was asked for."""
        if generation:
            self._remember(instrument, tf, chart=chart, generation=generation)
            self._later(lambda: self._cache.put(instrument, tf, value=chart.dump(), generation=generation))

    def _remember(self, instrument: Instrument, tf: Timeframe, *, chart: EncodedChart, generation: bytes) -> None:
        size = len(chart.bars.data) + len(chart.indicators.data)
        self._memory.set((instrument.id, tf), (generation, chart, time.monotonic() + AGE_S), size=size)
