"""The simulated Alpaca's keys: any pair is welcome, but for some that show how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

KEY_HEADER, SECRET_HEADER = "APCA-API-KEY-ID", "APCA-API-SECRET-KEY"
WRONG_KEY, POOR_KEY = "wrong", "nofeed"  # one that is refused, one without a subscription to sip
MAX_KEYS = 1000


def welcome(key: str, secret: str) -> bool:
    """Whether a pair is let in."""
    return bool(key and secret) and key != WRONG_KEY


def may_hear(key: str, feed: str) -> bool:
    """Whether a key's subscription has a feed."""
    return feed != "sip" or key != POOR_KEY


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a key's requests in this minute, and when the next begins (seconds)."""

    granted: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As Alpaca tells it."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_s),
        }


class RequestLimit:
    """The requests each key has made in this minute of the wall clock."""

    def __init__(self, limit: int, *, wall_s: Callable[[], float]) -> None:
        self._limit, self._wall_s = limit, wall_s
        self._minute = 0
        self._used: dict[str, int] = {}

    def spend(self, key: str) -> Allowance:
        """Count one request of `key`."""
        minute = int(self._wall_s() // 60)
        if minute != self._minute or len(self._used) > MAX_KEYS:
            self._minute = minute
            self._used.clear()
        used = self._used[key] = self._used.get(key, 0) + 1
        return Allowance(used <= self._limit, self._limit, max(0, self._limit - used), (minute + 1) * 60)
