"""Bars to write: seeded, in the digits an exchange sends."""

from __future__ import annotations

import random

from app.domain.bar_columns import BarColumns


def walk(instrument_id: int, start_ms: int, count: int, *, step_ms: int, seed: int) -> BarColumns:
    """A page of an exchange's bars, a random walk around 65,000."""
    chance, price = random.Random(seed), 6_500_000
    texts: list[tuple[str, ...]] = []
    for _ in range(count):
        open_ = price
        price += chance.randrange(-2_000, 2_001)
        high, low = max(open_, price) + chance.randrange(900), min(open_, price) - chance.randrange(900)
        size = chance.randrange(10**5, 10**9)
        texts.append((*map(cents, (open_, high, low, price)), *map(units, (size, size * 65_000, size // 2))))
    times = [start_ms + place * step_ms for place in range(count)]
    none, trades = [0] * count, [chance.randrange(1, 5000) for _ in times]
    o, h, l, c, volume, quote, taker = map(list, zip(*texts, strict=True))  # noqa: E741
    starts, ends = ([(time_ms + after) * 1000 for time_ms in times] for after in (0, 59_999))
    return BarColumns(instrument_id, times, o, h, l, c, volume, quote, taker, trades, starts, none, ends, none)


def cents(value: int) -> str:
    """An integer of 1/100 as a decimal."""
    return f"{value // 100}.{value % 100:02d}"


def units(value: int) -> str:
    """An integer of 1e-8 as a decimal."""
    return f"{value // 10**8}.{value % 10**8:08d}"
