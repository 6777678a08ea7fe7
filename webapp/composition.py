"""What the web process is made of: services over the platform's database and Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from redis import Redis, RedisError

from app.bootstrap import Platform
from app.cache.charts import ChartCache
from app.cache.pubsub import quotes
from app.config import Settings
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import SourceError, UnknownInstrument
from app.services.charts import ChartRequest, Charts, Newest
from app.services.clock import wall_us
from app.services.overview import Overview
from app.storage import candles, catalog, indicators
from webapp.live import Hub
from webapp.schemas import MAX_BARS


@dataclass(frozen=True, slots=True)
class Web:
    """The services that pages, API and sockets use."""

    settings: Settings
    engine: sa.Engine
    redis: Redis
    charts: Charts
    overview: Overview
    hub: Hub

    def find(self, symbol: str, exchange: str | None) -> Instrument:
        """The instrument a client means; raises UnknownInstrument or AmbiguousSymbol."""
        if not symbol.isprintable():
            raise UnknownInstrument(f"unknown symbol {symbol!r}")  # the driver refuses NUL, and no symbol has the like
        with self.engine.connect() as conn:
            return catalog.find(conn, symbol, exchange)

    def instruments(self, *, active_only: bool = False) -> list[Instrument]:
        """The watchlist."""
        with self.engine.connect() as conn:
            return catalog.instruments(conn, active_only=active_only)


def compose(platform: Platform) -> Web:
    """The services of one web process; nothing connects yet."""
    settings, engine, redis = platform.settings, platform.engine, platform.redis
    charts = Charts(
        engine.connect,
        candles,
        indicators=indicators,
        cache=ChartCache(redis, ttl_s=settings.chart_ttl_s),
        chart_bars=settings.chart_bars,
    )
    overview = Overview(engine.connect, candles, now_ms=lambda: exchange_ms(platform))

    def read_chart(
        instrument: Instrument, tf: Timeframe, names: tuple[str, ...], since_ms: int | None
    ) -> tuple[bytes, Newest]:
        limit = settings.chart_bars if since_ms is None else MAX_BARS
        request = ChartRequest(tf, limit, start_ms=since_ms, indicators=names)
        chart = charts.chart(instrument, request)
        with engine.connect() as conn:
            return chart, charts.newest(conn, instrument, tf)

    hub = Hub(
        redis,
        read_chart,
        read_overview=lambda: orjson.dumps(overview_json(web)),
        coalesce_s=settings.ws_coalesce_ms / 1000,
        ping_s=settings.ws_ping_s,
    )
    web = Web(settings, engine, redis, charts, overview, hub)
    return web


def exchange_ms(platform: Platform) -> int:
    """Exchange time in ms; the machine's while the simulated market does not answer."""
    try:
        return platform.clock.now_us() // 1000
    except SourceError:
        return wall_us() // 1000


def overview_json(web: Web) -> dict[str, Any]:
    """The overview of all active instruments, the last prices as fresh as Redis has them, and the feeds."""
    try:
        newest = quotes(web.redis)
    except RedisError:
        newest = {}  # the database's last bar is at most a batch older
    rows = web.overview.rows(web.instruments(active_only=True), newest)
    feeds = web.hub.read_feeds()
    for row in rows:
        row["feed"] = feeds[row["exchange"]]["feed"]
    return {"instruments": rows, "feeds": feeds}
