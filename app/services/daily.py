"""Daily bars of stocks: once a session is over, the source's own bar of it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from app.domain.instruments import RULES, Exchange
from app.domain.sessions import MARGINS
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.services.ports import Clock, Cutoffs, keeps_all

SETTLED_MS = 5 * MINUTE_MS  # so long after its end a source has a session's bar


class DailyAsks(Protocol):
    """app.storage.settled, as far as it asks for daily bars."""

    def ask_daily(
        self, connection: sa.Connection, exchange: str, /, *, ended_ms: int, days: int, kept_ms: int
    ) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Daily:
    """Queues backfills of 1d for stocks whose newest session has no bar of the source's own."""

    engine: sa.Engine
    asks: DailyAsks
    clock: Clock
    days: int  # how far back, for a stock without any
    skip: Collection[str] = ()  # exchanges that cannot be asked: without a key, say
    cutoffs: Cutoffs = keeps_all

    def run(self) -> int:
        """Asks for what is missing; returns how many backfills were queued."""
        now_ms = self.clock.now_us() // 1000
        queued = 0
        with self.engine.begin() as connection:
            kept_ms = self.cutoffs(connection).get(Timeframe.D1, 0)
            for exchange, rules in RULES.items():
                if rules.native_daily and exchange.value not in self.skip:
                    ended_ms = now_ms - _after_close_ms(exchange)
                    asked = self.asks.ask_daily(
                        connection, exchange.value, ended_ms=ended_ms, days=self.days, kept_ms=kept_ms
                    )
                    queued += len(asked)
        return queued


def _after_close_ms(exchange: Exchange) -> int:
    """How long after a session's close its daily bar is there: the auctions after it, the source's delay, a while."""
    rules = RULES[exchange]
    auction = 0 if rules.streamed else max(after for _, after in MARGINS.values()) * MINUTE_MS
    return auction + rules.delay_s * 1000 + SETTLED_MS
