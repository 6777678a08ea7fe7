"""Binance's request weights: counted by the minute and address, 429 beyond the limit, 418 for who will not stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

WEIGHTS = {
    "/api/v3/ping": 1,
    "/api/v3/time": 1,
    "/api/v3/exchangeInfo": 20,
    "/api/v3/klines": 2,
    "/api/v3/trades": 25,
    "/api/v3/historicalTrades": 25,
    "/api/v3/aggTrades": 4,
}
PATIENCE = 20  # refused requests in a minute after which the address is banned
BAN_S = 120


@dataclass(slots=True)
class _Account:
    minute: int = -1
    used: int = 0
    refused: int = 0
    banned_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request: its status (200, 429, 418), the weight used so far, how long to wait."""

    status: int
    used: int
    retry_after_s: int = 0
    banned_until_ms: int = 0


class WeightLimit:
    """The weight each address has used in this minute of the wall clock."""

    def __init__(self, limit: int, *, wall_s: Callable[[], float]) -> None:
        self.limit = limit
        self._wall_s = wall_s
        self._accounts: dict[str, _Account] = {}

    def spend(self, address: str, weight: int) -> Verdict:
        """Charge `weight` to `address`."""
        now = self._wall_s()
        if len(self._accounts) > 1000:
            self._accounts.clear()
        account = self._accounts.setdefault(address, _Account())
        if now < account.banned_until_s:
            return Verdict(418, account.used, int(account.banned_until_s - now) + 1, int(account.banned_until_s * 1000))
        minute = int(now // 60)
        if account.minute != minute:
            account.minute, account.used, account.refused = minute, 0, 0
        account.used += weight
        if account.used <= self.limit:
            return Verdict(200, account.used)
        account.refused += 1
        if account.refused > PATIENCE:
            account.banned_until_s = now + BAN_S
        return Verdict(429, account.used, int((minute + 1) * 60 - now) + 1)
