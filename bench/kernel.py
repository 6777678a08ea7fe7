"""The bar kernel against a dict update per trade, alternating in one run: `python bench/kernel.py [TRADES] [ROUNDS]`.

Both make 1m bars of the same trades (200 instruments, a minute). The dict adds floats; the kernel's sums are exact.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.bars import partial_bars
from app.domain.trades import TradeBatch


def trades(count: int) -> TradeBatch:
    """Seeded trades, in time order."""
    chance = np.random.default_rng(7)
    instruments = np.sort(chance.integers(1, 201, count))  # as a batch without repeats comes
    times = np.sort(chance.integers(0, 60_000_000, count)) + 1_700_000_000_000_000
    ids = np.arange(count, dtype=np.int64)
    prices, sizes = chance.integers(10**8, 10**12, count), chance.integers(1, 10**11, count)
    return TradeBatch(instruments, times, ids, ids, prices, sizes, chance.random(count) < 0.5)


def by_dict(rows: list[tuple[int, int, float, float]]) -> int:
    """A dict update per trade, as most collectors do it."""
    bars: dict[tuple[int, int], list[float]] = {}
    for instrument, time_us, price, size in rows:
        key = (instrument, time_us // 60_000_000)
        bar = bars.get(key)
        if bar is None:
            bars[key] = [price, price, price, price, size, price * size, 1]
            continue
        if price > bar[1]:
            bar[1] = price
        elif price < bar[2]:
            bar[2] = price
        bar[3] = price
        bar[4] += size
        bar[5] += price * size
        bar[6] += 1
    return len(bars)


def main() -> None:
    """Prints the rates and the ratio of each round."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    batch = trades(count)
    prices, sizes = (batch.price_e8 / 1e8).tolist(), (batch.size / 1e8).tolist()
    rows = list(zip(batch.instrument_id.tolist(), batch.time_us.tolist(), prices, sizes, strict=True))
    ratios = []
    for _ in range(rounds):
        began = time.perf_counter()
        bars = by_dict(rows)
        middle = time.perf_counter()
        assert len(partial_bars(batch)) == bars
        end = time.perf_counter()
        ratios.append((middle - began) / (end - middle))
        print(f"dict {count / (middle - began) / 1e6:.2f} M/s   kernel {count / (end - middle) / 1e6:.2f} M/s")
    print(f"{count} trades: ratio median {median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
