"""How long bars are kept and in what pieces they are stored: by timeframe, since a minute and a day share nothing.

The reasons and figures stand in docs/decisions/hypertables.md.
"""

from __future__ import annotations

from typing import NamedTuple

from app.domain.timeframes import DAY_MS, Timeframe

BARS_A_CHUNK = 1_000_000  # about 170 MB with its indexes: it fits into memory while it is written
MINUTES_A_DAY = 1440


class Layout(NamedTuple):
    """The pieces of a timeframe's hypertables, in days."""

    chunk: int  # a chunk's length
    compress_after: int  # a chunk whose end is so old is compressed


BARS_A_DELETE = 10_000  # and as many rows of indicators: some 50 ms


class Kept(NamedTuple):
    """What the bars of a timeframe are kept for."""

    days: int | None  # None: for ever
    since_ms: int | None  # what was asked to be kept beyond the days; None: nothing


LAYOUTS = {
    Timeframe.M1: Layout(7, 14),
    Timeframe.M5: Layout(14, 28),
    Timeframe.M15: Layout(28, 56),
    Timeframe.H1: Layout(91, 182),
    Timeframe.H4: Layout(364, 728),
    Timeframe.D1: Layout(3640, 7280),
}


def layout(tf: Timeframe, instruments: int) -> Layout:
    """The layout for a watchlist of so many instruments: a chunk of minutes gets shorter with them, down to a day."""
    found = LAYOUTS[tf]
    if tf is not Timeframe.M1:
        return found
    days = BARS_A_CHUNK // (MINUTES_A_DAY * max(instruments, 1))
    return found._replace(chunk=max(1, min(found.chunk, days)))


def slice_ms(tf: Timeframe) -> int:
    """The length of what is deleted at once from one series: whole days, so that none is ever seen cut in half."""
    return max(1, BARS_A_DELETE * tf.ms // DAY_MS) * DAY_MS
