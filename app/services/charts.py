"""Charts: a series' bars with its live bar and its indicators, as the JSON that REST and WebSocket send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import orjson
import sqlalchemy as sa

from app.domain.bars import Bar, State
from app.domain.indicator_names import INDICATORS
from app.domain.instruments import RULES, Instrument
from app.domain.rollup import live_bar
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.updates import bar_json
from app.services.encoded import ChartBytes, Elements, EncodedChart, chart_json, tag_of

MAX_MINUTES = 5000  # most minutes read to build live bars; more only stand unrolled when roll-ups are days behind


class BarStore(Protocol):
    """Stored bars: the newest `limit` of [start_ms, end_ms), oldest first."""

    def read(
        self,
        conn: sa.Connection,
        instrument_id: int,
        tf: Timeframe,
        /,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Bar]: ...


class IndicatorStore(Protocol):
    """Stored indicators of [start_ms, end_ms): {"time": ms, name: value or None}, oldest first."""

    def read(
        self, conn: sa.Connection, instrument_id: int, tf: Timeframe, /, *, start_ms: int, end_ms: int
    ) -> list[dict[str, Any]]: ...


class ChartCache(Protocol):
    """Encoded charts, each usable only while its instrument's generation is the one it was read under."""

    def generation(self, instrument: Instrument) -> bytes: ...
    def get(self, instrument: Instrument, timeframe: Timeframe) -> bytes | None: ...
    def put(self, instrument: Instrument, timeframe: Timeframe, *, value: bytes, generation: bytes) -> None: ...


class GapReader(Protocol):
    """The gaps of a series that touch [lo, hi), as charts show them."""

    def of(
        self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, /, *, lo_ms: int | None, hi_ms: int | None
    ) -> list[dict[str, Any]]: ...


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
    ) -> None:
        self._connect, self._bars, self._indicators, self._cache = connect, bars, indicators, cache
        self._gaps, self._chart_bars, self._facts = gaps, chart_bars, facts

    def chart(self, instrument: Instrument, request: ChartRequest) -> ChartBytes:
        """The chart as JSON, `facts` about its instrument in it; without a database, what the driver raises."""
        if (request.limit, request.start_ms, request.end_ms) == (self._chart_bars, None, None):
            return self._newest_chart(instrument, request.timeframe, names=request.indicators)
        head = self._head(instrument, request.timeframe)
        with self._connect() as conn:
            bars = self.series(conn, instrument, request)
            rows = self._rows_of(conn, instrument, request.timeframe, bars=bars) if request.indicators else []
            cut = len(bars) == request.limit or request.start_ms is None
            lo_ms = bars[0].time_ms if bars and cut else request.start_ms
            head["holes"] = self._gaps.of(conn, instrument, request.timeframe, lo_ms=lo_ms, hi_ms=request.end_ms)
        picked = Elements.of(pick(rows, request.indicators))
        body = chart_json(head, bars=[_encoded(instrument, bars).data], indicators=[picked.data])
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
        if len(minutes) < MAX_MINUTES:
            return minutes
        first = tf.floor(minutes[0].time_ms)  # its minutes may be cut off: no bar rather than a wrong one
        return [minute for minute in minutes if tf.floor(minute.time_ms) != first]

    def _newest_chart(self, instrument: Instrument, tf: Timeframe, *, names: Sequence[str]) -> ChartBytes:
        chart = EncodedChart.read(self._cache.get(instrument, tf))
        answer = None if chart is None else self._spliced(instrument, tf, chart=chart, names=names)
        return self._rebuilt(instrument, tf, names=names) if answer is None else answer

    def _spliced(
        self, instrument: Instrument, tf: Timeframe, *, chart: EncodedChart, names: Sequence[str]
    ) -> ChartBytes | None:
        """The cached chart with what came after it; None where more came than can be cut off at the other end."""
        request = ChartRequest(tf, self._chart_bars, start_ms=chart.last_ms + tf.ms)
        head = self._head(instrument, tf)
        with self._connect() as conn:
            tail = self.series(conn, instrument, request)
            surplus = max(chart.bars.count + len(tail) - self._chart_bars, 0)
            if surplus >= len(chart.bars.times):
                return None
            first_ms, tail_ms = chart.bars.times[surplus], chart.last_ms + tf.ms
            # Some of the indicators: cheaper read than picked out of the encoded ones.
            start_ms = tail_ms if tuple(names) == INDICATORS else first_ms
            end_ms = tail[-1].time_ms + tf.ms if tail else tail_ms
            rows = self._indicator_rows(conn, instrument, tf, start_ms=start_ms, end_ms=end_ms) if names else []
            head["holes"] = self._gaps.of(conn, instrument, tf, lo_ms=first_ms, hi_ms=None)
        return _joined(head, chart, surplus=surplus, tail=_encoded(instrument, tail), rows=rows, names=names)

    def _rebuilt(self, instrument: Instrument, tf: Timeframe, *, names: Sequence[str]) -> ChartBytes:
        generation = self._cache.generation(instrument)  # before the read: a later commit then voids the value
        head = self._head(instrument, tf)
        with self._connect() as conn:
            stored, minutes = self._read(conn, instrument, ChartRequest(tf, self._chart_bars))
            bars = complete(stored, minutes, tf)[-self._chart_bars :]
            rows = self._rows_of(conn, instrument, tf, bars=bars)
            lo_ms = bars[0].time_ms if bars else None
            head["holes"] = self._gaps.of(conn, instrument, tf, lo_ms=lo_ms, hi_ms=None)
        settled = _settled(bars, stored, tf)
        last_ms = bars[settled - 1].time_ms if settled else -1
        old_rows = Elements.of(row for row in rows if row["time"] <= last_ms)
        chart = EncodedChart.of(last_ms, _encoded(instrument, bars[:settled]), old_rows)
        if settled:
            self._cache.put(instrument, tf, value=chart.dump(), generation=generation)
        if tuple(names) == INDICATORS:
            rows = [row for row in rows if row["time"] > last_ms]
        return _joined(head, chart, surplus=0, tail=_encoded(instrument, bars[settled:]), rows=rows, names=names)

    def _head(self, instrument: Instrument, tf: Timeframe) -> dict[str, Any]:
        """What stands before the bars and the holes: which series it is, and the facts of its instrument.

        Asked before a connection is taken: the facts may want one themselves, and the pool might have no second.
        """
        return {
            "symbol": instrument.symbol,
            "exchange": instrument.exchange.value,
            "timeframe": tf.value,
            **self._facts(instrument),
        }

    def _rows_of(
        self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, *, bars: Sequence[Bar]
    ) -> list[dict[str, Any]]:
        if not bars:
            return []
        return self._indicator_rows(conn, instrument, tf, start_ms=bars[0].time_ms, end_ms=bars[-1].time_ms + tf.ms)

    def _indicator_rows(
        self, conn: sa.Connection, instrument: Instrument, tf: Timeframe, *, start_ms: int, end_ms: int
    ) -> list[dict[str, Any]]:
        if start_ms >= end_ms:
            return []
        return self._indicators.read(conn, instrument.id, tf, start_ms=start_ms, end_ms=end_ms)


def _joined(
    head: Mapping[str, Any],
    chart: EncodedChart,
    *,
    surplus: int,
    tail: Elements,
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str],
) -> ChartBytes:
    """The encoded chart without its `surplus` oldest bars, then the tail.

    `rows` are the indicators of the tail where all are asked for, and else those of the whole answer.
    """
    new = Elements.of(pick(rows, names)).data
    whole, old = tuple(names) == INDICATORS, b""
    if whole:
        older = chart.indicators.before(chart.bars.times[surplus]) if surplus else 0
        old = chart.indicators.without(older)
    body = chart_json(head, bars=[chart.bars.without(surplus), tail.data], indicators=[old, new])
    cut = orjson.dumps([chart.tag, surplus, whole])
    return ChartBytes(body, tag_of(cut, orjson.dumps(head), tail.data, new))


def pick(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows with only these indicators; none where none is asked for."""
    if not names:
        return []
    if tuple(names) == INDICATORS:
        return list(rows)
    return [{"time": row["time"], **{name: row[name] for name in names}} for row in rows]


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


def _settled(bars: Sequence[Bar], stored: Sequence[Bar], tf: Timeframe) -> int:
    """How many of the first bars change only together with the generation.

    An open minute changes with each trade. A roll-up changes by a new roll-up alone, which bumps the generation,
    but for the newest one: minutes complete it, and begin the next.
    """
    if tf is Timeframe.M1:
        return next((i for i, bar in enumerate(bars) if bar.state is State.OPEN), len(bars))
    return sum(1 for bar in bars if stored and bar.time_ms < stored[-1].time_ms)


def _encoded(instrument: Instrument, bars: Iterable[Bar]) -> Elements:
    return Elements.of(map(partial(bar_json, delayed=RULES[instrument.exchange].delay_s > 0), bars))
