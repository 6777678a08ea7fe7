"""What the web process is made of: services over the platform's database and Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from redis import Redis, RedisError

from app.bootstrap import Platform
from app.cache import keys
from app.cache.charts import ChartCache
from app.cache.pubsub import quotes
from app.config import Settings
from app.domain.instruments import RULES, Instrument
from app.domain.timeframes import Timeframe
from app.errors import SourceError, UnknownInstrument
from app.services.backfilling import Backfilling
from app.services.charts import ChartRequest, Charts, Newest
from app.services.clock import wall_us
from app.services.feed_states import missing_keys
from app.services.gaps import Gaps
from app.services.markets import Markets
from app.services.overview import Overview, Quote
from app.services.ready import ReadyCharts
from app.services.screener import Screener
from app.services.watchlist import Watchlist
from app.storage import candles, catalog, indicators, quality, screening, sessions
from app.storage.reads import Reads
from webapp import listings
from webapp.errors import AWAY
from webapp.feeds import Feeds, MarketStates
from webapp.gather import Gather
from webapp.later import Later
from webapp.live import Extent, Hub
from webapp.members import Members
from webapp.schemas import MAX_BARS
from webapp.watch import FEEDS_S, NO_BOOK, Watch

MOST_KEPT = 8  # charts that wait to be put into Redis; one more is left to the next who asks for it
HOURS_S = 5.0  # how long the calendars in use are kept


@dataclass(frozen=True, slots=True)
class Web:
    """The services that pages, API and sockets use."""

    settings: Settings
    engine: sa.Engine
    reads: Reads
    redis: Redis
    charts: Charts
    ready: ReadyCharts
    overview: Overview
    screener: Screener
    watch: Watch
    hub: Hub
    watchlist: Watchlist
    now_ms: Callable[[], int]  # exchange time
    backfilling: Backfilling
    gather: Gather
    later: Later

    def find(self, symbol: str, exchange: str | None) -> Instrument:
        """The instrument a client means; raises UnknownInstrument or AmbiguousSymbol."""
        if not symbol.isprintable():
            raise UnknownInstrument(f"unknown symbol {symbol!r}")  # the driver refuses NUL, and no symbol has the like
        with self.engine.connect() as conn:
            return catalog.find(conn, symbol, exchange)

    def instruments(self, *, active_only: bool = False) -> list[Instrument]:
        """The watchlist."""
        with self.reads.connect() as conn:
            return catalog.instruments(conn, active_only=active_only)


def compose(platform: Platform) -> Web:
    """The services of one web process; nothing connects yet."""
    settings, engine, redis = platform.settings, platform.engine, platform.redis
    reads = platform.reads

    def now_ms() -> int:
        return exchange_ms(platform)

    gaps = Gaps(quality, sessions, extended=settings.extended_hours)
    markets = Markets(reads.connect, sessions, now_ms=now_ms, extended=settings.extended_hours)
    feeds = Feeds(redis, missing=missing_keys(settings), markets=hours_reader(reads, markets))
    watch = Watch(redis, feeds, read_gaps=_gaps_reader(reads, gaps))
    later = Later(MOST_KEPT)
    cache, memory = ChartCache(redis, ttl_s=settings.chart_ttl_s), settings.chart_memory_mb * 2**20 // 2

    def facts(instrument: Instrument) -> dict[str, Any]:
        return market_facts(watch, instrument)

    charts = Charts(
        partial(_without_transaction, reads),
        candles,
        indicators=indicators,
        cache=cache,
        gaps=gaps,
        chart_bars=settings.chart_bars,
        facts=facts,
        memory_bytes=memory,
        later=later,
    )
    ready = ReadyCharts(charts, cache.versions, find=lambda *name: web.find(*name), facts=facts, most_bytes=memory)

    def read_newest(instrument: Instrument, tf: Timeframe) -> Newest:
        with reads.connect() as conn:
            return charts.newest(conn, instrument, tf)

    def read_chart(instrument: Instrument, tf: Timeframe, extent: Extent) -> tuple[bytes, Newest]:
        limit = extent.limit or (settings.chart_bars if extent.since_ms is None else MAX_BARS)
        request = ChartRequest(tf, limit, start_ms=extent.since_ms, indicators=extent.names)
        return ready.of(instrument, request).body, read_newest(instrument, tf)

    hub = Hub(
        redis,
        read_chart,
        read_newest=read_newest,
        watch=watch,
        read_overview=lambda: orjson.dumps(overview_json(web)),
        members=Members(lambda: web.instruments(active_only=True)),
        coalesce_s=settings.ws_coalesce_ms / 1000,
        ping_s=settings.ws_ping_s,
    )
    watchlist = Watchlist(
        engine,
        catalog,
        lambda exchange, symbol: listings.look(exchange, symbol),
        lambda: platform.publisher.hint(keys.WATCHLIST, [{}]),
    )
    overview = Overview(reads.connect, candles, screening, now_ms=now_ms)
    web = Web(
        settings=settings,
        engine=engine,
        reads=reads,
        redis=redis,
        charts=charts,
        ready=ready,
        overview=overview,
        screener=Screener(reads.connect, screening, lambda items: overview.rows(items, last_prices(web)), now_ms),
        watch=watch,
        hub=hub,
        watchlist=watchlist,
        now_ms=now_ms,
        backfilling=platform.backfilling,
        gather=Gather(platform, watch, hub, now_ms=now_ms),
        later=later,
    )
    return web


@contextmanager
def _without_transaction(reads: Reads) -> Iterator[sa.Connection]:
    """A connection whose statements stand alone: each has a snapshot of its own anyhow, and two round trips go."""
    with reads.connect() as conn:
        yield conn if conn.in_transaction() else conn.execution_options(isolation_level="AUTOCOMMIT")


def hours_reader(reads: Reads, markets: Markets) -> Callable[[], MarketStates]:
    """Reads the hours of the calendars in use, by exchange; the last known while the database is away."""
    known: MarketStates = {}
    used: set[tuple[str, str]] = set()
    read_at = -HOURS_S

    def read() -> MarketStates:
        nonlocal known, used, read_at
        try:
            if time.monotonic() - read_at >= HOURS_S:
                with reads.connect() as conn:
                    used = {
                        (item.exchange.value, item.calendar) for item in catalog.instruments(conn, active_only=True)
                    }
                read_at = time.monotonic()
            states = markets.states(used)
        except (*AWAY, sa.exc.DBAPIError):
            return known
        found: dict[str, dict[str, Any]] = {}
        for exchange, calendar in sorted(used):
            found.setdefault(exchange, {})[calendar] = states[exchange, calendar].json()
        known = found
        return known

    return read


def _gaps_reader(reads: Reads, gaps: Gaps) -> Callable[[Sequence[Instrument]], dict[int, list[dict[str, Any]]]]:
    def read(instruments: Sequence[Instrument]) -> dict[int, list[dict[str, Any]]]:
        try:
            with reads.connect() as conn:
                return gaps.of_many(conn, instruments)
        except (*AWAY, sa.exc.DBAPIError):
            return {}  # the next look will tell

    return read


def exchange_ms(platform: Platform) -> int:
    """Exchange time in ms; the machine's while the simulated market does not answer."""
    try:
        return platform.clock.now_us() // 1000
    except SourceError:
        return wall_us() // 1000


def market_facts(watch: Watch, instrument: Instrument) -> dict[str, Any]:
    """What every answer about an instrument says of its market: hours, feed, and how far its source is behind."""
    state = watch.states(max_age_s=FEEDS_S)[instrument.exchange.value]
    return {
        "market": state["markets"].get(instrument.calendar),
        "feed": state["feed"],
        "delay_s": RULES[instrument.exchange].delay_s,
    }


def last_prices(web: Web) -> dict[str, Quote]:
    """Every last price by Instrument.key; none with Redis away: the database's last bar is at most a batch older."""
    try:
        return quotes(web.redis)
    except RedisError:
        return {}


def overview_json(web: Web) -> dict[str, Any]:
    """The overview of all active instruments, the last prices as fresh as Redis has them, and the feeds."""
    instruments = web.instruments(active_only=True)
    rows = web.overview.rows(instruments, last_prices(web))
    feeds, books = web.watch.states(), web.watch.quotes()
    for row, item in zip(rows, instruments, strict=True):
        row |= {**market_facts(web.watch, item), **books.get(item.key, NO_BOOK)}
    return {"instruments": rows, "feeds": feeds}


def quotes_json(web: Web, instruments: Sequence[Instrument]) -> list[dict[str, Any]]:
    """Last price with its exchange time (ms), best bid and ask, and halt of each instrument; None where unknown."""
    books = web.watch.quotes()
    told = ("exchange", "symbol", "currency", "price", "time")
    return [
        {name: row[name] for name in told}
        | {"delayed": RULES[item.exchange].delay_s > 0, **books.get(item.key, NO_BOOK)}
        for row, item in zip(web.overview.rows(instruments, last_prices(web)), instruments, strict=True)
    ]
