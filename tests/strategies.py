"""Hypothesis strategies for trades and for ways to deliver them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from app.domain.trades import REGULAR, Trade

START_US = 1_570_752_000_000_000


@st.composite
def streams(draw: st.DrawFn, *, instruments: tuple[int, ...] = (1, 2), most: int = 40) -> list[Trade]:
    """Trades with contiguous ids by instrument, some aggregates, some in the same microsecond, some minutes silent."""
    trades: list[Trade] = []
    for instrument in instruments:
        first, time_us = draw(st.integers(1, 10**9)), START_US
        for _ in range(draw(st.integers(1, most))):
            count = draw(st.sampled_from((1, 1, 1, 2, 5)))
            time_us += draw(st.sampled_from((0, 0, 1, 1000, 20_000_000, 61_000_000, 250_000_000)))
            price = draw(st.integers(1, 10**13))
            size = draw(st.integers(1, 10**15))
            trades.append(Trade(instrument, time_us, first, first + count - 1, price, size, draw(st.booleans())))
            first += count
    return trades


@st.composite
def conditioned(draw: st.DrawFn, *, instruments: tuple[int, ...] = (1, 2), most: int = 25) -> list[Trade]:
    """The same with conditions: what a print updates is any set of bits."""
    bits = st.integers(0, REGULAR)
    return [trade._replace(updates=draw(bits)) for trade in draw(streams(instruments=instruments, most=most))]


@st.composite
def deliveries(draw: st.DrawFn, trades: list[Trade]) -> list[list[Trade]]:
    """The trades in any order, cut anywhere, with any of them delivered again, alone or with others."""
    shuffled = draw(st.permutations(trades))
    again = draw(st.lists(st.sampled_from(trades), max_size=len(trades)))
    whole = list(shuffled) + again
    cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    edges = [0, *cuts, len(whole)]
    return [whole[a:b] for a, b in pairwise(edges) if b > a]
