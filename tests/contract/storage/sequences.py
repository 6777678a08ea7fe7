"""Any sequence of writes: drawn steps that are done the same on both databases, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from hypothesis import strategies as st

from app.domain.bars import Bar, Origin, PartialBar, State
from app.domain.outbox import Due, Span
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.settle import Settle
from app.storage import bulk, candles, catalog, closing, holes, outbox, retention
from tests.contract.storage.bars import AAPL, BTC, EDGE, HAND, LIVE, SOL

M = MINUTE_MS
# Where steps happen: in a compressed chunk, across the border, where bars are live, and where no chunk is yet.
PLACES = (HAND, EDGE - 10 * M, LIVE, LIVE + 21 * DAY_MS)
SERIES = (BTC, SOL, AAPL)
TABLES = (
    *(f"candles_{tf.value}" for tf in Timeframe), *(f"indicators_{tf.value}" for tf in Timeframe),
    "touched", "coverage",
)  # fmt: skip

Step = tuple[str, Any]  # what is done, and with what


@dataclass(frozen=True, slots=True)
class _Within:
    """An engine that gives the connection it has: services then work in the transaction of the test."""

    connection: sa.Connection

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """The connection."""
        yield self.connection


times = st.builds(lambda place, minute: place + minute * M, st.sampled_from(PLACES), st.integers(0, 20))
series = st.sampled_from(SERIES)
prices = st.sampled_from((0.00000001, 9.5, 11.0, 12.25, 31.0, 250.0))


@st.composite
def parts(draw: st.DrawFn) -> list[PartialBar]:
    """Minutes of a batch, sorted as batches are."""
    found = []
    for instrument, time_ms in sorted(draw(st.sets(st.tuples(series, times), min_size=1, max_size=12))):
        first, count, price, high = draw(st.integers(90, 170)), draw(st.integers(1, 5)), draw(prices), draw(prices)
        size = Decimal(draw(st.integers(1, 10**12))).scaleb(-8)
        found.append(
            PartialBar(
                instrument, time_ms, price, max(price, high), min(price, high), high, size, size * 3, size / 4, count,
                time_ms * 1000 + first, first, time_ms * 1000 + first + count, first + count - 1,
            )
        )  # fmt: skip
    return found


@st.composite
def bars(draw: st.DrawFn, most: int = 12) -> tuple[Timeframe, list[Bar]]:
    """The exchange's own bars of any timeframe; some without trades."""
    tf = draw(st.sampled_from((Timeframe.M1, Timeframe.M1, Timeframe.M5, Timeframe.H1, Timeframe.D1)))
    keys = draw(st.sets(st.tuples(series, times.map(tf.floor)), min_size=1, max_size=most))
    return tf, [_bar(i, t, draw(prices), draw(st.integers(0, 3)), tf) for i, t in sorted(keys)]


@st.composite
def pages(draw: st.DrawFn) -> list[Bar]:
    """Enough consecutive minutes of one series for COPY."""
    instrument, start, length, price = draw(series), draw(times), draw(st.integers(40, 60)), draw(prices)
    return [_bar(instrument, start + n * M, price, n % 4, Timeframe.M1) for n in range(length)]


def _bar(instrument: int, time_ms: int, price: float, count: int, tf: Timeframe) -> Bar:
    size, edges = Decimal(count) / 8, (time_ms * 1000, 0, (time_ms + tf.ms) * 1000 - 1, 0)
    return Bar(
        instrument, time_ms, price, price, price, price, size, size * 3, size / 4, count, *edges, State.VERIFIED, 0,
        Origin.EXCHANGE,
    )  # fmt: skip


spans = st.builds(lambda i, t, n: Span(i, t, t + n * M), series, times, st.integers(0, 30))
dues = st.builds(lambda i, t, idle: Due(i, t - DAY_MS, t, idle), series, times, st.sampled_from((0.0, 3600.0, 7200.0)))
keys = st.lists(st.tuples(series, times), min_size=1, max_size=8, unique=True)
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("merge"), parts()),
    st.tuples(st.just("merge"), parts()),
    st.tuples(st.just("replace"), bars()),
    st.tuples(st.just("page"), pages()),
    st.tuples(st.just("close"), st.lists(dues, min_size=1, max_size=3)),
    st.tuples(st.just("flats"), spans),
    st.tuples(st.just("verify"), keys),
    st.tuples(st.just("remove"), keys),
    st.tuples(st.just("settle"), st.lists(spans, min_size=1, max_size=4)),
    st.tuples(st.just("delete"), spans),
)


def replayed(drawn: list[Step]) -> Callable[[sa.Connection], list[Any]]:
    """What does the steps, and answers what each of them answered."""
    return lambda connection: [_done(connection, name, with_what) for name, with_what in drawn]


def _done(c: sa.Connection, name: str, what: Any) -> Any:
    match name:
        case "merge":
            merged = candles.merge(c, what)
            return merged.bars, sorted(merged.verified)
        case "replace":
            return sorted(candles.replace(c, what[1], tf=what[0]))
        case "page":
            return sorted(bulk.replace(c, what))
        case "close":
            return closing.close(c, what, lo_ms=min(due.lo_ms for due in what))
        case "flats":
            return closing.trailing_flats(c, [what], lo_ms=what.lo_ms, hi_ms=what.hi_ms)
        case "verify":
            return candles.verify(c, what)
        case "remove":
            return candles.remove(c, what)
        case "settle":
            return _settled(c, what)
        case "delete":
            return [retention.delete(c, tf, what.instrument_id, what.lo_ms, what.hi_ms) for tf in Timeframe]
    raise AssertionError(name)


def _settled(c: sa.Connection, what: list[Span]) -> int:
    """The marks that settling takes until none is left."""
    known = {item.id: item for item in catalog.instruments(c)}
    outbox.mark(c, "rollup", what)
    engine = cast(sa.Engine, _Within(c))
    service = Settle(engine, outbox, holes, closing, lambda ids: {i: known[i] for i in ids if i in known}, 7)
    taken = 0
    while count := service.run():
        taken += count
    return taken
