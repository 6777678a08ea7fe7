"""Law 5 on all three exchanges, side by side: a quiet minute is no outage, and an outage is no quiet minute.

Each market is quiet in minute 2. In minutes 5 to 14 nothing reaches us; the market traded there, but for minute 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
import sqlalchemy as sa

from app.config import Settings
from app.domain.bars import Bar, State
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.errors import SourceAway
from app.storage import catalog, holes, sessions, settled
from tests.factories import settle
from tests.integration.test_verification import T0, Core, _core, official

QUIET, OUT, LAST = {2, 8}, range(5, 15), 20
MINUTES = range(LAST)


@dataclass
class Market:
    """One exchange's core and the two ways in which nothing comes."""

    core: Core
    exchange: str

    @property
    def has_flats(self) -> bool:
        return self.exchange == "binance"

    def true_bars(self) -> list[Bar]:
        """What the exchange's own series says, flat bars for quiet minutes only where it has them."""
        traded = {m: official(self.core, m, 100.0 + m, 1, ids=(m + 1, m + 1)) for m in MINUTES if m not in QUIET}
        flats = {m: official(self.core, m, 100.0 + m - 1, 0) for m in QUIET} if self.has_flats else {}
        return [bar.bar() for _, bar in sorted({**traded, **flats}.items())]

    def live(self, first: int, last: int, *, run: int) -> None:
        """A connected feed, or a poller that polls, through the minutes [first, last)."""
        core = self.core
        for place, minute in enumerate(range(first, last), 1):
            core.clock.second = minute * 60 + 65.0
            if self.exchange == "yahoo":
                core.clock.second += 1000
                core.shelf.bars = [bar for bar in self.true_bars() if bar.time_ms < T0 + (minute + 1) * MINUTE_MS]
                core.platform.polling.run()
                continue
            trades = [] if minute in QUIET else [core.trade(minute * 60 + 5, minute + 1, 100.0 + minute)]
            since = {1: ((core.instrument, T0 * 1000 + first * 60_000_000),)}.get(place)
            self._batch(trades, minute * 60 + 63, place, run, since)
            core.platform.closing.run()
        settle(core.platform)

    def _batch(self, trades: list, upto_s: float, n: int, run: int, subscribed: tuple | None) -> None:  # type: ignore[type-arg]
        from app.domain.trades import Mark, TradeBatch

        since_us = T0 * 1000
        mark = Mark(
            run, n, T0 * 1000 + int(upto_s * 1_000_000), self.exchange, since_us=since_us, subscribed=subscribed
        )
        self.core.platform.ingest.apply(TradeBatch.of(trades, mark=mark))

    def out(self, until: int) -> None:
        """Nothing comes; the platform looks at itself meanwhile."""
        core = self.core
        if self.exchange == "yahoo":
            core.shelf.klines = _away  # type: ignore[method-assign]
            core.clock.second = until * 60 + 1065.0
            core.platform.polling.run()
            del core.shelf.klines
        else:
            core.sql("UPDATE feeds SET progress = now() - interval '1 minute', ended = true RETURNING 1")
            core.clock.second = until * 60 + 5.0
            core.platform.search.outages()

    def open_minutes(self) -> set[int]:
        with self.core.platform.engine.begin() as connection:
            found = [h for h in holes.open_holes(connection, due_only=False) if h.instrument_id == self.core.instrument]
        return {m for h in found for m in range((h.lo_ms - T0) // MINUTE_MS, (h.hi_ms - T0) // MINUTE_MS)}


def _away(*args: object) -> list[Bar]:
    raise SourceAway("nobody there")


@pytest.fixture(params=["binance", "alpaca", "yahoo"])
def market(request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis) -> Iterator[Market]:
    symbol = {"binance": "CCC/USDT", "alpaca": "WWW", "yahoo": "VVV.IS"}[request.param]
    core = _core(settings.model_copy(update={"outage_s": 0.2, "yahoo_poll_s": 30.0}), request.param, symbol)
    with core.platform.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE sessions"))
        for item in catalog.instruments(connection):
            catalog.set_active(connection, item.id, item.id == core.instrument)
        for calendar in ("XNYS", "XIST"):
            sessions.put(connection, calendar, [Session(T0, T0 - 8 * 3_600_000, T0 + DAY_MS // 4)])
        if request.param == "yahoo":
            settled.forward(connection, core.instrument, T0)
    yield Market(core, request.param)
    core.platform.engine.dispose()


def test_a_quiet_minute_and_an_outage_are_told_apart(market: Market) -> None:
    core = market.core
    market.live(0, 5, run=41)
    core.shelf.bars = [bar for bar in market.true_bars() if bar.time_ms < T0 + 5 * MINUTE_MS]
    core.repair()
    core.follow()
    assert market.open_minutes() == set(), "a quiet minute is no hole"
    assert set(core.stored()) == set(range(5)) - (set() if market.has_flats else QUIET)

    market.out(15)
    assert market.open_minutes() >= set(OUT), "an outage is a hole while it lasts"
    assert 2 not in market.open_minutes(), "and the quiet minute before it is still none"
    assert not core.stored().keys() & set(OUT), "no flat bar says that an outage was quiet"

    core.shelf.bars = market.true_bars()
    market.live(15, LAST, run=42)
    core.shelf.bars = market.true_bars()
    core.repair()
    core.follow()
    assert market.open_minutes() == set()
    stored = core.stored()
    assert set(stored) == set(MINUTES) - (set() if market.has_flats else QUIET)
    for bar in market.true_bars():
        ours = stored[(bar.time_ms - T0) // MINUTE_MS]
        assert (ours.open, ours.close, ours.volume, ours.trade_count) == (
            bar.open,
            bar.close,
            bar.volume,
            bar.trade_count,
        )
    assert all(stored[m].state is State.VERIFIED for m in OUT if m in stored)
