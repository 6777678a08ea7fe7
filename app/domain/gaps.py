"""Gaps as users see them: where a series is missing or in doubt while its market was open, and why; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from app.domain.sessions import Window, clipped

# What a hole's cause means to a reader; a cause that is not here speaks for itself.
CAUSES = {
    "connected": "the feed was just connecting",
    "left": "the symbol was not followed",
    "feed down": "the feed was down",
    "not polled": "the source could not be asked",
    "batch lost": "trades were lost on their way",
    "missing trades": "trades are missing",
    "missing bars": "bars are missing",
}


class Gap(NamedTuple):
    """A stretch [start, end) ms of an instrument's minutes that waits for repair."""

    instrument_id: int
    start_ms: int
    end_ms: int
    cause: str
    found_ms: int

    def json(self) -> dict[str, Any]:
        """The gap as charts show it."""
        reason = CAUSES.get(self.cause, self.cause)
        return {
            "start": self.start_ms, "end": self.end_ms, "cause": self.cause, "reason": reason, "found": self.found_ms,
        }  # fmt: skip


def disjoint(gaps: Iterable[Gap], expected: Sequence[Window] | None) -> list[Gap]:
    """The gaps of one instrument, oldest first, cut to the market's hours (None: always) and none over another."""
    found: list[Gap] = []
    end_ms = 0
    for gap in sorted(gaps, key=lambda each: (each.start_ms, -each.end_ms)):
        lo_ms = max(gap.start_ms, end_ms)
        parts = [Window(lo_ms, gap.end_ms)] if expected is None else clipped(lo_ms, gap.end_ms, expected)
        found += [gap._replace(start_ms=part.lo_ms, end_ms=part.hi_ms) for part in parts if part.lo_ms < part.hi_ms]
        end_ms = max(end_ms, gap.end_ms)
    return found
