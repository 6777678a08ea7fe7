"""The platform's state as this process sees it, gathered at most once a second however many pages ask for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from redis import RedisError

from app.bootstrap import Platform
from app.cache.signals import Signals, broker_of
from app.services.stages import Seen, Stage, stages, summary
from app.services.status import Facts
from app.services.status import Trouble as Told
from app.storage import inventory
from app.storage.trouble import Trouble, trouble_of
from webapp.errors import AWAY
from webapp.live import Hub
from webapp.watch import FEEDS_S, Watch

KEEP_S = 1.0  # what one look found serves everybody for so long
VERIFICATION_S = 15.0  # the day's verification is counted so often: it takes a look at a day of minutes
SHARE_OF_TIME = 20  # and never takes more than a twentieth of the time: with hundreds of symbols it takes seconds
SIZE_S = 60.0  # the size of the database is looked up so often: it takes a look at every file
FLOWER_S = 15.0  # so often it is tried whether Flower listens
NO_DATABASE = Told(
    "The database cannot be reached",
    "Nothing is stored and no chart can be read until it is back; trades wait in their queues. Is the server up?",
)
SLOW_DATABASE = Told(
    "The database answers too slowly",
    "It is busy: an import, a backfill or a query of somebody's own may be at work. What waits is done later.",
)
NO_REDIS = Told(
    "Redis cannot be reached",
    "Charts come from the database and nothing is live; everything refills by itself once it is back. Is it up?",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found."""

    facts: Facts
    seen: Seen
    lanes: list[Stage]
    summary: dict[str, Any]
    database: dict[str, Any]
    redis: dict[str, Any]
    at_ms: int  # wall time


@dataclass(slots=True)
class _Kept:
    value: Any = None
    until: float = -1e9  # of time.monotonic()

    @classmethod
    def of(cls, value: Any, keep_s: float) -> _Kept:
        return cls(value, time.monotonic() + keep_s)

    @property
    def old(self) -> bool:
        return time.monotonic() > self.until


@dataclass
class Gather:
    """Looks when somebody asks and the last look is old; one at a time, the others wait for it."""

    platform: Platform
    watch: Watch
    hub: Hub
    now_ms: Callable[[], int]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _found: Found | None = None
    _looked: float = -1e9
    _verification: _Kept = field(default_factory=_Kept)
    _size: _Kept = field(default_factory=_Kept)
    _flower: _Kept = field(default_factory=_Kept)
    _signals: Signals | None = None

    def __call__(self) -> Found:
        """The newest look, no older than a second."""
        with self._lock:
            if self._found is None or time.monotonic() - self._looked >= KEEP_S:
                self._found = self._look()
                self._looked = time.monotonic()  # after the look: a slow one is not to follow upon itself
            return self._found

    def flower(self, host: str) -> str | None:
        """Where a browser that reached us as `host` reaches Flower; None where it cannot, or nothing listens."""
        settings = self.platform.settings
        if settings.flower_url:
            return settings.flower_url
        if host not in {"127.0.0.1", "localhost", "[::1]"} or not settings.flower_port:
            return None  # it listens on loopback only
        if self._flower.old:
            self._flower = _Kept.of(_listens(settings.flower_port), FLOWER_S)
        return f"http://127.0.0.1:{settings.flower_port}" if self._flower.value else None

    def _look(self) -> Found:
        facts, now_ms = Facts(), self.now_ms()
        redis = self._hear(facts)
        database = self._read(facts, now_ms)
        clients, subscribed = len(self.hub.members), self.hub.subscribed.is_set()
        speed = self.platform.clock.speed
        seen = Seen(redis["ok"], database["ok"], now_ms, speed, clients=clients, subscribed=subscribed)
        lanes = stages(facts, seen)
        return Found(facts, seen, lanes, summary(facts, seen, lanes), database, redis, time.time_ns() // 1_000_000)

    def _hear(self, facts: Facts) -> dict[str, Any]:
        states, began = self.watch.states(max_age_s=FEEDS_S), time.perf_counter()
        try:
            self.platform.status.hear(facts, self._wire(), states)
        except (RedisError, OSError):
            facts.troubles = [NO_REDIS]
            return {"ok": False, "ms": None, "bytes": None}
        return {"ok": True, "ms": _ms(began), "bytes": facts.redis_bytes}

    def _read(self, facts: Facts, now_ms: int) -> dict[str, Any]:
        try:
            with self.platform.reads.connect() as connection:
                began = time.perf_counter()
                if self._verification.old:
                    counted = self.platform.status.verification(connection, now_ms)
                    took_s = time.perf_counter() - began
                    self._verification = _Kept.of(counted, max(VERIFICATION_S, SHARE_OF_TIME * took_s))
                    began = time.perf_counter()
                self.platform.status.look(facts, connection, now_ms, verification=self._verification.value)
                took_ms = _ms(began)
            with self.platform.engine.connect() as connection:  # what is told of the server is the primary's
                count = inventory.connections(connection)
                if self._size.old:
                    self._size = _Kept.of(inventory.size(connection), SIZE_S)
        except (*AWAY, sa.exc.DBAPIError) as error:
            facts.troubles.insert(0, SLOW_DATABASE if trouble_of(error) is Trouble.SLOW else NO_DATABASE)
            return {"ok": False, "ms": None, "bytes": None, "connections": None, "server": None, "timescaledb": None}
        server, size, extension = self._size.value
        facts_of_it = {"bytes": size, "connections": count, "server": server, "timescaledb": extension}
        return {"ok": True, "ms": took_ms, **facts_of_it}

    def _wire(self) -> Signals:
        if self._signals is None:
            settings, redis = self.platform.settings, self.platform.redis
            broker = broker_of(redis, redis_url=settings.redis_url, broker_url=settings.broker_url)
            self._signals = Signals(redis, broker)
        return self._signals


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
