"""What charts are told: provisional bars at once, stored bars and indicators once they are derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.domain.bars import Bar, State
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.updates import VERSION, bar_json, order_json
from app.services.ports import Catalogue, Publisher, Trail
from app.services.stores import Candles, IndicatorRows, Outbox

MOST_BARS = 5  # of one series in a message; more: the chart is fetched again (Verify.take counts on it)


@dataclass(frozen=True, slots=True)
class Announcer:
    """Turns bars into messages; `catalogue` gives instruments by id."""

    publisher: Publisher
    catalogue: Catalogue
    updates: str  # the channel of changed bars
    completed: str  # the channel of completed bars

    def applied(
        self, bars: Sequence[Bar], *, batch: str, upto_ms: int, facts: Mapping[str, Any], counts: Mapping[str, int]
    ) -> None:
        """Publishes the 1m bars that a batch changed, under its id, each instrument's last price, and its trail.

        The feed stands at `upto_ms`: an open minute that ended a minute before is late, and may stand behind closed
        ones, in the part of a chart that is encoded already.
        """
        grouped: dict[int, list[Bar]] = {}
        for bar in bars:
            grouped.setdefault(bar.instrument_id, []).append(bar)
        known = self.catalogue(grouped) if grouped else {}
        messages, quotes = [], {}
        for instrument_id, own in grouped.items():
            instrument = known.get(instrument_id)
            if instrument is None:
                continue  # removed meanwhile: nobody shows it
            newest = max(own, key=lambda bar: (bar.close_time, bar.close_seq))
            series = {Timeframe.M1: own} if len(own) <= MOST_BARS else {}
            late = any(bar.state is State.OPEN and bar.time_ms + 2 * MINUTE_MS <= upto_ms for bar in own)
            messages.append(message(instrument, series, {}, reload=not series, batch=batch, late=late))
            quotes[instrument.key] = (newest.close, newest.close_time // 1000)
        self.publisher.applied(self.updates, messages, Trail(batch, quotes, facts, counts))

    def count(self, reason: str, n: int = 1) -> None:
        """Counts under a reason."""
        self.publisher.count(reason, n)


@dataclass(frozen=True, slots=True)
class Publish:
    """The last stage of the outbox: tells charts what was derived, at least once, after its commit."""

    engine: sa.Engine
    outbox: Outbox
    candles: Candles
    indicators: IndicatorRows
    announcer: Announcer
    limit: int = 500

    def run(self, shard: int = 0, shards: int = 1) -> int:
        """Publishes what waits; returns how many marks. A crash before the commit publishes again, never too little."""
        with self.engine.begin() as connection:
            marks = self.outbox.take(connection, "publish", shard=shard, shards=shards, limit=self.limit)
            if not marks:
                return 0
            spans: dict[int, tuple[int, int]] = {}
            for instrument_id, lo_ms, hi_ms in marks:
                lo, hi = spans.get(instrument_id, (lo_ms, hi_ms))
                spans[instrument_id] = (min(lo, lo_ms), max(hi, hi_ms))
            known = self.announcer.catalogue(spans)
            small = {i: span for i, span in spans.items() if span[1] - span[0] < MOST_BARS * MINUTE_MS and i in known}
            stored = self._read(connection, small)
            self.announcer.publisher.bump([known[i] for i in spans if i in known])
            self._send(known, spans, small, stored)
        return len(marks)

    def _read(
        self, connection: sa.Connection, spans: dict[int, tuple[int, int]]
    ) -> dict[int, tuple[dict[Timeframe, list[Bar]], dict[Timeframe, list[dict[str, Any]]]]]:
        """instrument → bars and indicator rows of every timeframe in its span; one query a timeframe and span."""
        groups: dict[tuple[int, int], list[int]] = {}
        for instrument_id, span in spans.items():
            groups.setdefault(span, []).append(instrument_id)
        found: dict[int, tuple[dict[Timeframe, list[Bar]], dict[Timeframe, list[dict[str, Any]]]]] = {}
        for (lo_ms, hi_ms), instruments in groups.items():
            for tf in Timeframe:
                bounds = {"start_ms": tf.floor(lo_ms), "end_ms": hi_ms + 1}
                for bar in self.candles.read_many(connection, instruments, tf, **bounds):
                    found.setdefault(bar.instrument_id, ({}, {}))[0].setdefault(tf, []).append(bar)
                for instrument_id, row in self.indicators.read_many(connection, instruments, tf, **bounds):
                    found.setdefault(instrument_id, ({}, {}))[1].setdefault(tf, []).append(row)
        return found

    def _send(
        self, known: dict[int, Instrument], spans: dict[int, Any], small: dict[int, Any], stored: dict[int, Any]
    ) -> None:
        updates, completed = [], []
        for instrument_id in spans:
            instrument = known.get(instrument_id)
            if instrument is None:
                continue
            series, rows = stored.get(instrument_id, ({}, {}))
            updates.append(message(instrument, series, rows, reload=instrument_id not in small))
            done = {tf: [bar for bar in bars if bar.state is not State.OPEN] for tf, bars in series.items()}
            completed.append(
                message(
                    instrument, {tf: bars for tf, bars in done.items() if bars}, {}, reload=instrument_id not in small
                )
            )
        self.announcer.publisher.send(self.announcer.updates, updates)
        self.announcer.publisher.send(self.announcer.completed, completed)


def message(
    instrument: Instrument,
    series: dict[Timeframe, list[Bar]],
    indicators: dict[Timeframe, list[dict[str, Any]]],
    *,
    reload: bool,
    batch: str = "",
    late: bool = False,
) -> dict[str, Any]:
    """One message of chart_updates or completed_bars; `batch` is in it where one batch of trades is its cause.

    `late` says that it has an open bar where others may be closed already.
    """
    delayed = RULES[instrument.exchange].delay_s > 0
    return {
        "v": VERSION,
        "exchange": instrument.exchange.value,
        "symbol": instrument.symbol,
        "id": instrument.id,
        "series": {
            tf.value: {
                "bars": [{**bar_json(bar, delayed=delayed), "order": order_json(bar)} for bar in series.get(tf, [])],
                "indicators": indicators.get(tf, []),
            }
            for tf in Timeframe
            if series.get(tf) or indicators.get(tf)
        },
        "reload": reload,
        **({"batch": batch} if batch else {}),
        **({"late": True} if late else {}),
    }
