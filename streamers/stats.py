"""What a streamer has seen and done, in numbers: for the heartbeat, the counters and the minute's log line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """Totals since the start; `reasons` counts everything dropped or refused, until it is handed to Redis."""

    frames: int = 0
    klines: int = 0  # unfinished ones, passed over
    trades: int = 0
    batches: int = 0
    sent_trades: int = 0
    official: int = 0  # bars of the exchange's own handed over
    doubts: int = 0
    reconnects: int = 0
    runs: int = 0
    last_event_us: int = 0
    delay_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)  # the same, since the start

    def count(self, reason: str, n: int = 1) -> None:
        """Count `n` under `reason`."""
        self.reasons[reason] += n
        self.dropped[reason] += n

    def take_reasons(self) -> Counter[str]:
        """The counts since the last call."""
        taken, self.reasons = self.reasons, Counter()
        return taken
