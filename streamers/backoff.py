"""Delays between attempts: a generator, the caller sleeps."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

FIRST_S = 0.5
CAP_S = 30.0


def delays(random: Random, *, first_s: float = FIRST_S, cap_s: float = CAP_S) -> Iterator[float]:
    """Endless delays in seconds, doubling from `first_s` to `cap_s`, each shortened by up to half at random.

    The jitter keeps many clients from coming back at once. Start a new generator once data flows again.
    """
    delay_s = first_s
    while True:
        yield delay_s * (1 - random.random() / 2)
        delay_s = min(cap_s, delay_s * 2)
