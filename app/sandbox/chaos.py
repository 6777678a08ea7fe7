"""A plan of everything that goes wrong in a stretch of exchange time, drawn from one seed.

Every kind that heals by itself happens somewhere in the stretch, each in a window of its own with an end, the last
a tenth before the stretch's. The chances are small, and what waits in wall time is short and counted, so that a day
at high speed gets through. Kinds that end a streamer on purpose (auth, unauthorized) are left out: ask for them by
hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

type Options = dict[str, Any]

QUIET = 0.1  # the last tenth of the stretch is without faults
SHARE = (0.05, 0.25)  # of the stretch a window takes
STREAMED = ("binance", "alpaca")


def plan(seed: int, *, start_us: int, end_us: int, exchanges: Iterable[str]) -> list[Options]:
    """The faults of [start, end), as options of app.sandbox.faults.make_fault (or make_stock_fault), by time."""
    found: list[Options] = []
    for exchange in exchanges:
        rng = random.Random(f"{seed} {exchange}")
        for options in _stream(rng, exchange) + _stock(rng, exchange) + _rest(rng):
            length = end_us - start_us
            span = int(length * rng.uniform(*SHARE))
            at_us = start_us + int(rng.random() * (length * (1 - QUIET) - span))
            window = {"exchange": exchange, "at_us": at_us, "until_us": at_us + span, "seed": rng.randrange(2**31)}
            found.append({**options, **window})
    return sorted(found, key=lambda options: (options["at_us"], options["exchange"], options["kind"]))


def _stream(rng: random.Random, exchange: str) -> list[Options]:
    if exchange not in STREAMED:  # its newest bars are not yet whole when they are asked for
        return [{"kind": "revise", "door": "stream", "probability": 0.5, "count": rng.randint(1, 5)}]
    kinds: list[Options] = [
        {"kind": "disconnect", "count": rng.randint(1, 3), "after": rng.randint(50, 500), "duration_s": _few(rng, 0.5)},
        {"kind": "silence", "duration_s": _few(rng, 1.0)},
        {"kind": "duplicate", "probability": _few(rng, 0.05)},
        {"kind": "reorder", "probability": _few(rng, 0.05), "span": rng.randint(2, 20)},
        {"kind": "drop", "probability": _few(rng, 0.004)},
        {"kind": "late", "probability": _few(rng, 0.004), "duration_s": round(rng.uniform(65, 300), 1)},
        {"kind": "revise", "probability": _few(rng, 0.004)},
        {"kind": "malformed", "probability": _few(rng, 0.004)},
        {"kind": "skew", "duration_s": round(rng.uniform(-1.5, 1.5), 3)},
    ]
    if exchange == "binance":
        kinds.append({"kind": "shutdown", "after": rng.randint(1, 50), "duration_s": _few(rng, 1.0)})
    return [{**options, "door": "stream"} for options in kinds]


def _stock(rng: random.Random, exchange: str) -> list[Options]:
    """What happens to prints of stocks after the fact: app.sandbox.stock_faults."""
    if exchange != "alpaca":
        return []
    return [
        {"kind": kind, "probability": _few(rng, 0.002), "delay_s": round(rng.uniform(5, 120), 1)}
        for kind in ("cancel", "correct", "late_print")
    ]


def _rest(rng: random.Random) -> list[Options]:
    kinds: list[Options] = [
        {"kind": "status", "status": 429, "retry_after_s": 1, "count": rng.randint(1, 3)},
        {"kind": "status", "status": 418, "retry_after_s": 2, "count": 1},
        {"kind": "status", "status": rng.choice((500, 502, 503)), "count": rng.randint(1, 4)},
        {"kind": "slow", "duration_s": _few(rng, 1.0), "count": rng.randint(1, 5)},
        {"kind": "truncated", "count": rng.randint(1, 3)},
        {"kind": "malformed", "count": rng.randint(1, 3)},
        {"kind": "refused", "count": rng.randint(1, 3)},
    ]
    return [{**options, "door": "rest", "probability": round(rng.uniform(0.2, 0.6), 2)} for options in kinds]


def _few(rng: random.Random, most: float) -> float:
    """A number from a quarter of `most` to all of it."""
    return round(rng.uniform(most / 4, most), 5)
