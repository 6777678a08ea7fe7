"""How a polled instrument fares."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """When it was last asked for with success (exchange ms), and what has failed since."""

    asked_ms: int | None = None
    failures: int = 0
    not_before_s: float = 0.0  # wall time before which it is not asked for again
    error: str = ""
