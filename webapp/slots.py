"""Which of the web's processes one is, where there are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

MOST = 64  # WEB_WORKERS has no more


def names_of(process: str, workers: int) -> list[str]:
    """What its workers beat as: each under a name of its own, or others would speak for one that hangs."""
    return [process] if workers == 1 else [f"{process}.{slot}" for slot in range(1, workers + 1)]


def others_of(process: str, workers: int) -> list[str]:
    """What workers may have been called that were killed when there were more of them, or one alone."""
    return [name for name in (process, *names_of(process, MOST)) if name not in names_of(process, workers)]


def slot_of(slots: Iterable[int], living: Iterable[Any]) -> int:
    """The slot of a worker to come: that of its predecessor, whose heartbeat it goes on with.

    In a reload all begin while their predecessors live: then each slot is held twice for a while.
    """
    held = Counter(worker.slot for worker in living)
    return min(slots, key=lambda slot: (held[slot], slot))
