"""How long bars are kept and in what pieces they are stored: by timeframe, since a minute and a day share nothing.

The reasons and figures stand in docs/decisions/hypertables.md.
"""

from __future__ import annotations

from typing import NamedTuple

from app.domain.timeframes import Timeframe

BARS_A_CHUNK = 1_000_000  # about 170 MB with its indexes: it fits into memory while it is written
MINUTES_A_DAY = 1440


class Layout(NamedTuple):
    """The pieces of a timeframe's hypertables, in days."""

    chunk: int  # a chunk's length
    compress_after: int  # a chunk whose end is so old is compressed


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
