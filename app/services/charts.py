"""Charts: a series' bars with its live bar and its indicators, as the JSON that REST and WebSocket send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from app.domain.bars import Bar, State
from app.domain.indicator_names import INDICATORS
from app.domain.instruments import Instrument
from app.domain.rollup import live_bar
from app.domain.sessions import OWN_HOURS, of_its_date
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.versions import Versions
from app.services.chart_parts import encoded, encoded_bars, encoded_indicators, joined, pick
from app.services.chart_ports import BarStore, ChartCache, GapReader, IndicatorStore
from app.services.encoded import ChartBytes, Elements, EncodedChart, chart_json, tag_of
from app.services.settled_charts import SettledCharts

MAX_MINUTES = 5000  # most minutes read to build live bars; more only stand unrolled when roll-ups are days behind


@dataclass(frozen=True, slots=True)
class ChartRequest:
    """What a client wants of a series; the newest `limit` bars of [start_ms, end_ms)."""

    timeframe: Timeframe
    limit: int
    start_ms: int | None = None
    end_ms: int | None = None
    indicators: tuple[str, ...] = INDICATORS


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest stored bar of a series, and the minutes from its last trade on: what its live bar is made of."""

    base: Bar | None
    minutes: Sequence[Bar]


class Tail(NamedTuple):
    """The bars after the settled ones, and where they end."""

    bars: Elements
    end_ms: int


class Charts:
    """Reads charts: the newest from the cache with a fresh tail, every other from the database."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        bars: BarStore,
        *,
        indicators: IndicatorStore,
        cache: ChartCache,
        gaps: GapReader,
        chart_bars: int,
        facts: Callable[[Instrument], Mapping[str, Any]] = lambda _: {},
        memory_bytes: int = 0,
        later: Callable[[Callable[[], None]], None] = lambda act: act(),
    ) -> None:
        self._connect, self._bars, self._indicators, self._cache = connect, bars, indicators, cache
        self._gaps, self._chart_bars, self._facts = gaps, chart_bars, facts
        self._settled = SettledCharts(cache, most_bytes=memory_bytes, later=later)

    def is_newest(self, request: ChartRequest) -> bool:
        """Whether the chart asked for is the one that is cached: as many of the newest bars as a chart has."""
        return (request.limit, request.start_ms, request.end_ms) == (self._chart_bars, None, None)

    def chart(self, instrument: Instrument, request: ChartRequest, *, versions: Versions | None = None) -> ChartBytes:
        """The chart as JSON, `facts` about its instrument in it; without a database, what the driver raises.

        `versions` are the instrument's, where the caller has asked for them just now.
        """
        # Asked before a connection is taken: the facts may want one themselves, and the pool might have no second.
        head = {
            "symbol": instrument.symbol,
            "exchange": instrument.exchange.value,
            "timeframe": request.timeframe.value,
            **self._facts(instrument),
        }
        if self.is_newest(request):
            generation = (versions or self._cache.versions(instrument)).generation
            return self._newest_chart(head, instrument, request, generation=generation)
        with self._connect() as conn:
            return self._plain(conn, head, instrument, request=request)

    def _plain(
        self, conn: sa.Connection, head: dict[str, Any], instrument: Instrument, *, request: ChartRequest
    ) -> ChartBytes:
        """The chart from its rows."""
        tf, rows = request.timeframe, []
        bars = self.series(conn, instrument, request)
        if bars and request.indicators:
            span = {"start_ms": bars[0].time_ms, "end_ms": bars[-1].time_ms + tf.ms}
            rows = self._indicators.read(conn, instrument.id, tf, **span)
        cut = len(bars) == request.limit or request.start_ms is None
        lo_ms = bars[0].time_ms if bars and cut else request.start_ms
        head["holes"] = self._gaps.of(conn, instrument, tf, lo_ms=lo_ms, hi_ms=request.end_ms)
        picked = Elements.of(pick(rows, request.indicators))
        body = chart_json(head, bars=[encoded(instrument, bars).data], indicators=[picked.data])
        return ChartBytes(body, tag_of(body))

    def newest(self, conn: sa.Connection, instrument: Instrument, tf: Timeframe) -> Newest:
        """What the live bar of the series is made of now."""
        rows = self._bars.read(conn, instrument.id, tf, limit=1)
        base = rows[-1] if rows else None
        if tf is Timeframe.M1:
            return Newest(base, rows)
        return Newest(base, self._minutes(conn, instrument, tf, base=base))

    def series(self, conn: sa.Connection, instrument: Instrument, request: ChartRequest) -> list[Bar]:
        """The bars asked for, the newest completed by the minutes that its roll-up does not hold yet."""
        rows, minutes = self._read(conn, instrument, request)
        return complete(rows, minutes, request.timeframe)[-request.limit :]

    def _read(
        self, conn: sa.Connection, instrument: Instrument, request: ChartRequest
    ) -> tuple[list[Bar], Sequence[Bar]]:
        tf, start_ms, end_ms = request.timeframe, request.start_ms, request.end_ms
        rows = self._bars.read(conn, instrument.id, tf, start_ms=start_ms, end_ms=end_ms, limit=request.limit)
        if tf is Timeframe.M1:
            return rows, ()
        base = rows[-1] if rows else None
        return rows, self._minutes(conn, instrument, tf, base=base, start_ms=start_ms, end_ms=end_ms)

    def _minutes(
        self,
        conn: sa.Connection,
        instrument: Instrument,
        tf: Timeframe,
        *,
        base: Bar | None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Bar]:
        # Whole buckets only: a bar belongs to a range by its own start, whatever its minutes do.
        since = None if start_ms is None else -(-start_ms // tf.ms) * tf.ms
        if base is not None:
            last_trade_ms = base.close_time // 1000
            since = max(base.time_ms, last_trade_ms - last_trade_ms % MINUTE_MS)
        until = None if end_ms is None else -(-end_ms // tf.ms) * tf.ms
        if since is not None and until is not None and since >= until:
            return []
        minutes = self._bars.read(conn, instrument.id, Timeframe.M1, start_ms=since, end_ms=until, limit=MAX_MINUTES)
        if len(minutes) == MAX_MINUTES:
            first = tf.floor(minutes[0].time_ms)  # its minutes may be cut off: no bar rather than a wrong one
            minutes = [minute for minute in minutes if tf.floor(minute.time_ms) != first]
        if tf is Timeframe.D1 and instrument.calendar in OWN_HOURS:
            minutes = [minute for minute in minutes if of_its_date(instrument.calendar, minute.time_ms)]
        return minutes

    def _newest_chart(
        self, head: dict[str, Any], instrument: Instrument, request: ChartRequest, *, generation: bytes
    ) -> ChartBytes:
        """The settled part, from memory, cache or database, with what came after it."""
        tf, built = request.timeframe, None
        chart = self._settled.find(instrument, tf, generation=generation)
        with self._connect() as conn:
            answer = None
            if chart is not None:
                tail = self._tail(conn, instrument, tf, since_ms=chart.last_ms + tf.ms)
                answer = self._spliced(conn, head, instrument, request=request, chart=chart, tail=tail)
            if answer is None:
                built, tail = self._read_settled(conn, instrument, tf)
                answer = self._spliced(conn, head, instrument, request=request, chart=built, tail=tail)
            if answer is None:
                answer = self._plain(conn, head, instrument, request=request)
        if built is not None and built.bars.count:
            self._settled.keep(instrument, tf, chart=built, generation=generation)
        return answer

    def _spliced(
        self,
        conn: sa.Connection,
        head: dict[str, Any],
        instrument: Instrument,
        *,
        request: ChartRequest,
        chart: EncodedChart,
        tail: Tail,
    ) -> ChartBytes | None:
        """The settled chart with what came after it; None where more came than can be cut off at the other end."""
        tf, names = request.timeframe, request.indicators
        surplus = max(chart.bars.count + tail.bars.count - self._chart_bars, 0)
        if surplus and surplus >= len(chart.bars.times):
            return None
        tail_ms = chart.last_ms + tf.ms
        first_ms = chart.bars.times[surplus] if chart.bars.count else tail_ms
        whole = tuple(names) == INDICATORS
        start_ms = tail_ms if whole else first_ms  # some of them: cheaper read than picked out of the encoded ones
        new = Elements.none()
        if names and start_ms < tail.end_ms:
            rows = self._indicators.columns(conn, instrument.id, tf, start_ms=start_ms, end_ms=tail.end_ms)
            new = encoded_indicators(rows, names)
        shown = (chart.bars if chart.bars.count else tail.bars).times[surplus:]
        head["holes"] = self._gaps.of(conn, instrument, tf, lo_ms=shown[0] if len(shown) else None, hi_ms=None)
        return joined(head, chart, surplus=surplus, tail=tail.bars, new=new, whole=whole)

    def _tail(self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, *, since_ms: int) -> Tail:
        bars = self.series(conn, instrument, ChartRequest(tf, self._chart_bars, start_ms=since_ms))
        return Tail(encoded(instrument, bars), bars[-1].time_ms + tf.ms if bars else since_ms)

    def _read_settled(self, conn: sa.Connection, instrument: Instrument, tf: Timeframe) -> tuple[EncodedChart, Tail]:
        """The bars that change only together with the generation and their indicators, and what comes after.

        An open minute changes with each trade. A roll-up changes by a new roll-up alone, which bumps the generation,
        but for the newest one: minutes complete it, and begin the next.
        """
        bars = self._bars.columns(conn, instrument.id, tf, limit=self._chart_bars)
        (still_open,) = np.nonzero(bars["state"] == State.OPEN)
        settled = max(len(bars) - 1, 0)
        if tf is Timeframe.M1:
            settled = int(still_open[0]) if len(still_open) else len(bars)
        if not settled:
            chart = EncodedChart(-tf.ms, Elements.none(), Elements.none())
            return chart, self._tail(conn, instrument, tf, since_ms=0)
        old, last_ms = bars[:settled], int(bars["time"][settled - 1])
        span = {"start_ms": int(bars["time"][0]), "end_ms": last_ms + tf.ms}
        rows = self._indicators.columns(conn, instrument.id, tf, **span)
        tag = tag_of(old.tobytes(), rows.tobytes())
        chart = EncodedChart(last_ms, encoded_bars(instrument, old), encoded_indicators(rows, INDICATORS), tag)
        if tf is not Timeframe.M1:
            return chart, self._tail(conn, instrument, tf, since_ms=span["end_ms"])
        return chart, Tail(encoded_bars(instrument, bars[settled:]), int(bars["time"][-1]) + tf.ms)


def complete(rows: Sequence[Bar], minutes: Sequence[Bar], tf: Timeframe) -> list[Bar]:
    """The stored bars of a timeframe, completed by minutes from the last of them on, oldest first."""
    buckets: dict[int, list[Bar]] = {}
    for minute in minutes:
        buckets.setdefault(tf.floor(minute.time_ms), []).append(minute)
    stored = {row.time_ms: row for row in rows}
    for time_ms, parts in buckets.items():
        bar = live_bar(stored.get(time_ms), parts, tf)
        if bar is not None:
            stored[time_ms] = bar
    return [stored[time_ms] for time_ms in sorted(stored)]
