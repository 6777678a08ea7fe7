"""What Redis, the database and the disks know, as metrics: gathered when somebody scrapes, each part by itself.

A part is looked at in a thread of its own, at most once in KEEP_S. A scrape waits WAIT_S for it and then does without:
with one of them away, or hanging, everything else is told all the same, and `market_…_up` is 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from loguru import logger
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.bootstrap import Platform
from app.cache.limits import spent
from app.cache.signals import Signals, broker_of
from app.cache.trade_queue import BROKER_ERRORS
from app.domain.instruments import Exchange
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.services.feed_states import feed_states
from app.services.markets import Markets
from app.services.status import Facts
from app.storage import backfills, catalog, figures, inventory, sessions
from webapp.errors import AWAY
from webapp.families import Heard, Read, disks, gauge, of_database, of_redis, unasked

KEEP_S = 1.0
WAIT_S = 2.5
FORGET_S = 60.0  # a look that has not come back for so long is given up: the next one begins
SLOW_S = 15.0  # what takes a look at a day of bars, or at every file, is asked for so often
SHARE_OF_TIME = 20  # and takes no more than a twentieth of the time
YOUNG_MS = 10 * MINUTE_MS  # a closed bar may wait so long for the exchange's word, by exchange time


class Part[T]:
    """What one look finds, None where it failed or takes too long."""

    def __init__(self, name: str, look: Callable[[], T], *, wait_s: float = WAIT_S) -> None:
        self._name, self._look, self._wait_s = name, look, wait_s
        self._lock = threading.Lock()
        self._value: T | None = None
        self._found = self._begun = -1e9
        self._done = threading.Event()
        self._done.set()

    def __call__(self) -> T | None:
        """The newest look's finding."""
        with self._lock:
            now = time.monotonic()
            busy = not self._done.is_set() and now - self._begun < FORGET_S
            if not busy and now - self._found >= KEEP_S:
                self._begun, self._done = now, threading.Event()
                threading.Thread(target=self._run, args=(self._done,), name=f"look {self._name}", daemon=True).start()
            done = self._done
        return self._value if done.wait(self._wait_s) else None

    def _run(self, done: threading.Event) -> None:
        found: T | None = None
        try:
            found = self._look()
        except (*AWAY, *BROKER_ERRORS, sa.exc.DBAPIError, ValueError) as error:
            logger.debug("metrics do without {}: {}", self._name, type(error).__name__)
        finally:
            self._value, self._found = found, time.monotonic()
            done.set()


@dataclass(eq=False)
class Figures(Collector):
    """The collector of one web process."""

    platform: Platform
    now_ms: Callable[[], int]  # exchange time
    _slow: tuple[float, Mapping[str, float], int] = (-1e9, {}, 0)
    _signals: Signals | None = None
    _redis: Part[Heard] = field(init=False)
    _database: Part[Read] = field(init=False)

    def __post_init__(self) -> None:
        self._redis, self._database = Part("Redis", self._hear), Part("the database", self._read)
        settings = self.platform.settings
        self._markets = Markets(
            lambda: self.platform.engine.connect(), sessions, now_ms=self.now_ms, extended=settings.extended_hours
        )

    def collect(self) -> Iterator[Metric]:
        """All parts."""
        yield from disks(self.platform.settings.watched_disks)
        speed = self.platform.clock.speed
        heard = self._redis()
        yield gauge("market_redis_up", "Whether Redis answers", {"": float(heard is not None)})
        if heard is not None:
            yield from of_redis(heard, self.platform.settings, speed=speed)
        read = self._database()
        yield gauge("market_database_up", "Whether the database answers", {"": float(read is not None)})
        if read is not None:
            yield from of_database(read, absent=unasked(self.platform.settings, heard))

    def _hear(self) -> Heard:
        platform, facts = self.platform, Facts()
        settings, redis = platform.settings, platform.redis
        if self._signals is None:
            broker = broker_of(redis, redis_url=settings.redis_url, broker_url=settings.broker_url)
            self._signals = Signals(redis, broker)
        platform.status.hear(facts, self._signals)
        weights = {exchange.value: spent(redis, exchange.value, now_s=time.time()) for exchange in Exchange}
        beats = {beat["name"]: beat for beat in facts.feeds}
        return Heard(facts, weights, feed_states(beats, Exchange))

    def _read(self) -> Read:
        platform, now_ms = self.platform, self.now_ms()
        speed, grace_s = platform.clock.speed, platform.settings.grace_s
        with platform.engine.connect() as connection:
            used = {(item.exchange.value, item.calendar) for item in catalog.instruments(connection, active_only=True)}
            oldest = figures.oldest_open(connection, now_ms - DAY_MS)
            holes = figures.open_holes(connection)
            at_work, connections = backfills.at_work(connection), inventory.connections(connection)
            shares, size = self._slowly(connection, now_ms)
        states = self._markets.states(used)
        opened = frozenset(market[0] for market in used if states[market].state == "open")
        late = {name: max(0.0, (now_ms - ms - MINUTE_MS) / 1000 - grace_s) / speed for name, ms in oldest.items()}
        exchanges = frozenset(exchange for exchange, _ in used)
        return Read(exchanges, opened, late, holes, shares, at_work, size, connections)

    def _slowly(self, connection: sa.Connection, now_ms: int) -> tuple[Mapping[str, float], int]:
        next_s, shares, size = self._slow
        began = time.monotonic()
        if began >= next_s:
            young = figures.unverified(connection, now_ms - YOUNG_MS)
            rows = self.platform.status.verification(connection, now_ms)
            old = {row["exchange"]: (row["verified"], row["closed"] - young.get(row["exchange"], 0)) for row in rows}
            shares = {name: min(1.0, verified / closed) for name, (verified, closed) in old.items() if closed > 0}
            _, size, _ = inventory.size(connection)
            keep_s = max(SLOW_S, SHARE_OF_TIME * (time.monotonic() - began))
            self._slow = (time.monotonic() + keep_s, shares, size)
        return shares, size
