"""The composition root: the only place where adapters meet services."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import redis
import sqlalchemy as sa

from app.cache import keys
from app.cache.client import make_redis
from app.cache.limits import Limiter
from app.cache.publisher import RedisPublisher
from app.config import Settings, load_settings
from app.domain.instruments import Instrument
from app.domain.sessions import Session
from app.errors import ConfigError, SourceError
from app.services.clock import Anchor, ExchangeClock
from app.services.closing import Closing
from app.services.expected import Expected
from app.services.ingest import Ingest
from app.services.runs import RunOpener
from app.services.settle import Settle
from app.services.updates import Announcer, Publish
from app.sources.by_exchange import Sources
from app.storage import (
    backfills,
    bulk,
    candles,
    catalog,
    closing,
    feeds,
    holes,
    indicators,
    ledger,
    official,
    outbox,
    retention,
    sessions,
)
from app.storage.engine import make_engine
from app.storage.known import Catalogue
from app.storage.reads import Reads

if TYPE_CHECKING:
    from app.services.audit import Audit
    from app.services.backfill import Backfill
    from app.services.backfilling import Backfilling
    from app.services.calendars import Calendars
    from app.services.daily import Daily
    from app.services.derive import Derive
    from app.services.polling import Polling
    from app.services.ports import History
    from app.services.repair import Repair
    from app.services.retention import Retention
    from app.services.search import Search
    from app.services.status import Status
    from app.services.sweep import Sweep
    from app.services.verify import Verify
    from app.services.watchlist import Watchlist


@dataclass
class Platform:
    """What one process uses; each part is built when it is first asked for."""

    settings: Settings
    process: str = ""

    @cached_property
    def engine(self) -> sa.Engine:
        """The database."""
        if not self.settings.database_url:
            raise ConfigError(
                "DATABASE_URL is not set, and no running platform gives one: start it with `python -m app up`"
            )
        return make_engine(self.settings, process=self.process)

    @cached_property
    def reads(self) -> Reads:
        """Where charts and lists are read: a replica where there is one."""
        if not self.settings.database_read_url:
            return Reads(self.engine)
        return Reads(self.engine, make_engine(self.settings, process=self.process, replica=True))

    @cached_property
    def redis(self) -> redis.Redis:
        """The cache and wire."""
        return make_redis(self.settings)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Instruments by id."""
        return Catalogue(self.engine)

    @cached_property
    def clock(self) -> ExchangeClock:
        """Exchange time."""
        if self.settings.market == "live":
            return ExchangeClock()
        return ExchangeClock(ask=lambda: _ask_sandbox(self.settings.binance_api_url))

    @cached_property
    def publisher(self) -> RedisPublisher:
        """The way out to Redis."""
        return RedisPublisher(self.redis)

    @cached_property
    def announcer(self) -> Announcer:
        """What charts are told."""
        return Announcer(self.publisher, self.catalogue, keys.CHART_UPDATES, keys.COMPLETED_BARS)

    @cached_property
    def runs(self) -> RunOpener:
        """What the start of a run means."""
        return RunOpener(feeds, holes, backfills, self.catalogue, self.expected, self.settings.start_backfill_hours)

    @cached_property
    def expected(self) -> Expected:
        """When bars are expected."""
        return Expected(sessions, self.settings.extended_hours)

    @cached_property
    def ingest(self) -> Ingest:
        """Batches become bars."""
        return Ingest(self.engine, ledger, candles, feeds, outbox, holes, self.runs, self.announcer)

    @cached_property
    def closing(self) -> Closing:
        """Minutes close."""
        s = self.settings
        return Closing(self.engine, feeds, closing, holes, self.publisher, s.grace_s, s.import_idle_s, s.feed_wait_s)

    @cached_property
    def settle(self) -> Settle:
        """Bars follow from bars."""
        return Settle(
            self.engine, outbox, holes, closing, self.catalogue, self.settings.flat_days, cutoffs=retention.cutoffs
        )

    @cached_property
    def verify(self) -> Verify:
        """Bars are compared with the exchange's own."""
        from app.services.verify import Verify

        return Verify(
            self.engine, official, candles, feeds, holes, ledger, outbox, self.catalogue, self.publisher,
            self.settings.grace_s,
        )  # fmt: skip

    @cached_property
    def sweep(self) -> Sweep:
        """History is asked about what the stream left open."""
        from app.services.sweep import Sweep

        s = self.settings
        return Sweep(
            self.engine, official, candles, self.verify, self.catalogue, self.expected, self.history, self.clock,
            s.grace_s, s.verify_after_s, s.quiet_check_s, retention.cutoffs,
        )  # fmt: skip

    @cached_property
    def audit(self) -> Audit:
        """Stored bars are compared with the exchange's own on demand."""
        from app.services.audit import Audit

        return Audit(self.engine, candles, self.verify, self.history, self.clock, retention.cutoffs)

    @cached_property
    def search(self) -> Search:
        """Holes nobody reported are found."""
        from app.services.feed_states import missing_keys
        from app.services.search import Search

        s = self.settings
        return Search(
            self.engine, holes, outbox, self.catalogue, self._active, self.expected, self.clock, self.publisher,
            s.grace_s, s.outage_s, missing_keys(s),
        )  # fmt: skip

    def _active(self) -> list[Instrument]:
        with self.engine.begin() as connection:
            return catalog.instruments(connection, active_only=True)

    @cached_property
    def publish(self) -> Publish:
        """Charts learn what was derived."""
        return Publish(self.engine, outbox, candles, indicators, self.announcer)

    @cached_property
    def derive(self) -> Derive:
        """Indicators follow from bars."""
        from app.cache.indicators import put_latest
        from app.services.derive import Derive

        return Derive(self.engine, indicators, lambda latest: put_latest(self.redis, self.catalogue, latest))

    @cached_property
    def repair(self) -> Repair:
        """Holes are filled."""
        from app.services.repair import Repair

        return Repair(
            self.engine, holes, self.verify, outbox, ledger, self.catalogue, self.expected, self.history, self.clock,
            self.publisher, self.settings.grace_s, retention.cutoffs,
        )  # fmt: skip

    @cached_property
    def backfill(self) -> Backfill:
        """History is fetched."""
        from app.services.backfill import Backfill

        return Backfill(
            self.engine, backfills, bulk, holes, outbox, self.catalogue, self.history, self.clock, self.publisher,
            retention,
        )  # fmt: skip

    @cached_property
    def backfilling(self) -> Backfilling:
        """History is asked for."""
        from app.cache.trade_queue import make_publisher, start_backfills
        from app.services.backfilling import Backfilling

        celery = make_publisher(self.settings)
        return Backfilling(backfills, retention, lambda: start_backfills(celery))

    @cached_property
    def status(self) -> Status:
        """How the platform is."""
        from app.services.status import Status
        from app.storage import quality

        return Status(
            self.settings, quality, backfills, sessions, lambda conn: catalog.instruments(conn, active_only=True)
        )

    @cached_property
    def retention(self) -> Retention:
        """What is not kept any longer is let go."""
        from app.services.retention import Retention

        return Retention(self.engine, retention, holes.exclusive, self.publisher)

    @cached_property
    def calendars(self) -> Calendars:
        """The calendars' sessions are stored."""
        from app.services.calendars import Calendars
        from app.sources.calendars import sessions as find
        from app.storage import settled

        return Calendars(self.engine, sessions, settled, catalog.instruments, find, self.clock)

    @cached_property
    def polling(self) -> Polling:
        """What has no stream is asked for."""
        from app.cache import health
        from app.cache.paces import Paces
        from app.services.polling import Polling
        from app.storage import settled

        s = self.settings
        return Polling(
            self.engine, settled, candles, holes, outbox, backfills, sessions, self._active, self.history, self.clock,
            self.publisher, Paces(self.redis, "yahoo"), lambda facts: health.beat(self.redis, "poller-yahoo", facts),
            s.yahoo_poll_s, s.outage_s, s.start_backfill_hours, retention.cutoffs,
        )  # fmt: skip

    @cached_property
    def daily(self) -> Daily:
        """Stocks' daily bars are asked for."""
        from app.services.daily import Daily
        from app.services.feed_states import missing_keys
        from app.storage import settled

        skip = missing_keys(self.settings)
        return Daily(self.engine, settled, self.clock, self.settings.start_daily_days, skip, retention.cutoffs)

    @cached_property
    def limiter(self) -> Limiter:
        """What each source allows us, over all processes."""
        return Limiter(self.redis)

    @cached_property
    def sources(self) -> Sources:
        """Every exchange's REST source, behind its limits."""
        return Sources(
            self.settings,
            self.limiter,
            now_us=self.clock.now_us,
            count=self.publisher.count,
            sessions=self.sessions_of,
        )

    def sessions_of(self, calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
        """The stored sessions around [lo, hi); in a database that has none of the calendar yet, they are stored first.

        For processes that have pandas anyway: the library needs it.
        """
        with self.engine.begin() as connection:
            found = sessions.read(connection, calendar, lo_ms, hi_ms)
            known = found or sessions.last(connection, calendar) is not None
        if known:
            return found
        self.calendars.run()
        with self.engine.begin() as connection:
            return sessions.read(connection, calendar, lo_ms, hi_ms)

    @cached_property
    def watchlist(self) -> Watchlist:
        """Symbols come and go."""
        from app.services.watchlist import Watchlist
        from app.sources.listings import Listings

        return Watchlist(
            self.engine, catalog, Listings(self.sources).look, lambda: self.publisher.hint(keys.WATCHLIST, [{}])
        )

    def history(self, instrument: Instrument) -> History | None:
        """The instrument's history source, of this thread; one that cannot be used raises Forbidden with the reason."""
        return self.sources.history(instrument.exchange)


def platform(settings: Settings | None = None, *, process: str = "") -> Platform:
    """The platform of this process."""
    return Platform(settings or load_settings(), process)


def _ask_sandbox(url: str) -> Anchor:
    try:
        with urllib.request.urlopen(f"{url}/sandbox/clock", timeout=3) as answer:
            body = json.load(answer)
        return Anchor(int(body["exchange_us"]), int(body["wall_us"]), float(body["speed"]))
    except (urllib.error.URLError, OSError, KeyError, ValueError) as error:
        raise SourceError(f"the simulated market at {url} does not answer: {error}") from error
