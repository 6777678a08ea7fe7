"""One source's account: the weight spent in the last minute, the rest it asked for, its circuit breaker.

The law of app/cache/limits.py in Python, for a process whose Redis is away; its Lua says the same of all processes.
Times are wall milliseconds, handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

WINDOW_S = 60
FAILURES = 5  # in a row open the breaker
PAUSE_MS, LONGEST_MS = 10_000, 300_000  # it stays open so long, twice as long each time
PROBE_MS = 30_000  # the one request that tries an open breaker may take so long
LOOK_AGAIN_MS = 1000  # the others ask again meanwhile


class Verdict(NamedTuple):
    """Whether a request may go: 0, or the milliseconds to wait and why: spent, rest or open."""

    wait_ms: int
    why: str


@dataclass(slots=True)
class Account:
    """What one source was asked and how it answered."""

    spent: dict[int, int] = field(default_factory=dict)  # wall second → weight
    rest_ms: int = 0
    failures: int = 0
    open_ms: int = 0  # the breaker is open until then; 0: closed
    pause_ms: int = 0
    probe_ms: int = 0

    def spend(self, now_ms: int, weight: int, per_minute: int) -> Verdict:
        """Book `weight` if it may be spent now: in any 60 seconds no more than `per_minute` is."""
        if self.rest_ms > now_ms:
            return Verdict(self.rest_ms - now_ms, "rest")
        if self.open_ms > now_ms:
            return Verdict(self.open_ms - now_ms, "open")
        if self.open_ms and self.probe_ms > now_ms:
            return Verdict(min(self.probe_ms - now_ms, LOOK_AGAIN_MS), "open")
        over = self._sum(now_ms) + min(weight, per_minute) - per_minute
        if over > 0:
            return Verdict(self._until_freed(now_ms, over), "spent")
        self.book(now_ms, weight)
        if self.open_ms:
            self.probe_ms = now_ms + PROBE_MS
        return Verdict(0, "")

    def book(self, now_ms: int, weight: int) -> None:
        """Count what was spent with another's leave."""
        self._forget(now_ms)
        self.spent[now_ms // 1000] = self.spent.get(now_ms // 1000, 0) + weight

    def used(self, now_ms: int, weight: int) -> None:
        """Take over the source's own count of its minute where it is higher: others spend there too."""
        missing = weight - self._sum(now_ms)
        if missing > 0:
            self.book(now_ms, missing)

    def rest(self, now_ms: int, wait_ms: int) -> None:
        """Nobody asks for so long."""
        self.rest_ms = max(self.rest_ms, now_ms + wait_ms)

    def failed(self, now_ms: int) -> None:
        """One more failure in a row: the fifth opens the breaker, a failed probe opens it for twice as long."""
        self.failures += 1
        if self.open_ms and self.open_ms <= now_ms:
            self._open(now_ms, min(2 * self.pause_ms, LONGEST_MS))
        elif not self.open_ms and self.failures >= FAILURES:
            self._open(now_ms, PAUSE_MS)

    def answered(self) -> None:
        """A success closes the breaker."""
        self.failures = self.open_ms = self.pause_ms = self.probe_ms = 0

    def _open(self, now_ms: int, pause_ms: int) -> None:
        self.pause_ms, self.open_ms, self.probe_ms = pause_ms, now_ms + pause_ms, 0

    def _sum(self, now_ms: int) -> int:
        """The weight of the last 60 seconds and the one that runs."""
        self._forget(now_ms)
        return sum(self.spent.values())

    def _forget(self, now_ms: int) -> None:
        second = now_ms // 1000
        self.spent = {at: weight for at, weight in self.spent.items() if abs(second - at) <= WINDOW_S}

    def _until_freed(self, now_ms: int, over: int) -> int:
        """How long until `over` of what was spent is older than a minute."""
        for at in sorted(self.spent):
            over -= self.spent[at]
            if over <= 0:
                return (at + WINDOW_S + 1) * 1000 - now_ms
        return WINDOW_S * 1000
