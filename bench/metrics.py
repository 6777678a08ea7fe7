"""What recording costs a batch of trades, a task and a request, and what a scrape costs: `python bench/metrics.py`.

In files of a folder, as the platform's processes record; medians of five rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.metrics import expose, recorded, start

ROUNDS, TIMES = 5, 20_000


def batch() -> None:
    """What tasks.bars.ingest records of one batch, the task's own end included."""
    recorded.batch_committed("binance", rows=100, accepted=100, queued_s=0.01, lag_s=0.1)
    recorded.task_ended("tasks.bars.ingest", "success", seconds=0.02)


def request() -> None:
    """What the web records of one request."""
    recorded.request_ended("/api/charts/<path:symbol>", "GET", 200, seconds=0.001)


def cost_us(call: Callable[[], object], times: int) -> float:
    """The median over the rounds of one call, in µs."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - began) / times * 1e6)
    return median(found)


def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        start(Path(folder))
        print(f"a batch   {cost_us(batch, TIMES):8.1f} µs")
        print(f"a request {cost_us(request, TIMES):8.1f} µs")
        for task in range(20):
            recorded.begin_tasks([f"tasks.number{task}"])
        for route in range(40):
            recorded.request_ended(f"/route/{route}", "GET", 200, seconds=0.1)
        print(f"a scrape  {cost_us(expose, 20):8.0f} µs, {len(expose()):,} bytes")


if __name__ == "__main__":
    main()
