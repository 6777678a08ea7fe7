"""`python -m streamers binance|alpaca [--shard 0/4]`: a daemon that collects one exchange's trades."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from loguru import logger
from redis import Redis, RedisError

from app.bootstrap import Platform, platform
from app.cache import health
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import Settings, load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.sessions import Session
from app.errors import PlatformError, Unavailable
from app.local.lifecycle import mark_ready
from app.local.runfile import attach
from app.logs import setup_logging
from app.metrics import serve
from app.storage import catalog
from app.storage.trouble import reason, trouble_of
from streamers.binance import BinanceStreamer
from streamers.daemon import Ports, Shard
from streamers.watchlist import RedisHint


class Heartbeat:
    """Says in Redis that the streamer lives; with Redis away the counts are kept for the next time."""

    def __init__(self, redis: Redis, process: str) -> None:
        self._redis, self._process = redis, process
        self._away = False

    def __call__(self, facts: Mapping[str, Any], reasons: Counter[str]) -> Counter[str]:
        """Tells the facts and adds the counts; returns those that could not be added."""
        left = Counter(reasons)
        try:
            health.beat(self._redis, self._process, {**facts, **health.owned()})
            for reason, n in reasons.items():
                health.count(self._redis, reason, n)
                del left[reason]
            self._away = False
        except RedisError as error:
            if not self._away:
                logger.warning("Redis away, no heartbeat: {}", error)
            self._away = True
        return left

    def end(self) -> None:
        """Takes the heartbeat back, unless it is a successor's by now."""
        try:
            health.take_back(self._redis, self._process)
        except RedisError as error:
            logger.warning("the heartbeat could not be taken back: {}", error)


class Streamer(Protocol):
    """One exchange's daemon."""

    async def run(self, stop: asyncio.Event) -> None:
        """Streams until `stop`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the daemon until SIGTERM or Ctrl-C; 0 then, 1 where it cannot run, 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m streamers", description="Collects one exchange's trades, live.")
    parser.add_argument("exchange", choices=[Exchange.BINANCE.value, Exchange.ALPACA.value])
    shard_help = "only instruments with id %% N == K"
    parser.add_argument("--shard", type=_shard, default=Shard(0, 1), metavar="K/N", help=shard_help)
    options = parser.parse_args(arguments)
    try:
        settings = attach(load_settings())
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shard: Shard = options.shard
    process = f"streamer-{options.exchange}" + (f"-{shard.k}" if shard.n > 1 else "")
    setup_logging(settings, process=process)
    process = settings.named(process)
    serve(settings.metrics_folder, settings.metrics_host, settings.metrics_port)
    parts = platform(settings, process=process)
    heartbeat = Heartbeat(parts.redis, process)
    queue = TradeQueue(make_publisher(settings))
    ports = Ports(
        parts.clock,
        queue,
        lambda: _instruments(parts, queue),
        RedisHint(parts.redis),
        heartbeat,
        lambda: mark_ready(settings),
    )
    try:
        asyncio.run(_run(lambda: _streamer(Exchange(options.exchange), settings, parts, ports, shard)))
    finally:
        heartbeat.end()
    return 0


def _streamer(exchange: Exchange, settings: Settings, parts: Platform, ports: Ports, shard: Shard) -> Streamer:
    if exchange is Exchange.BINANCE:
        return BinanceStreamer(settings, ports, shard)
    # alpaca-py brings pandas with it: a second and 100 MB that Binance's streamer has no use for.
    from streamers.alpaca import AlpacaStreamer, StockPorts
    from streamers.alpaca_board import RedisStore

    stock_ports = StockPorts(lambda *asked: _sessions(parts, *asked), RedisStore(parts.redis))
    return AlpacaStreamer(settings, ports, shard, stock_ports)


async def _run(make: Callable[[], Streamer]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await make().run(stop)


def _instruments(parts: Platform, queue: TradeQueue) -> list[Instrument]:
    def ask() -> list[Instrument]:
        with parts.engine.begin() as connection:
            return catalog.instruments(connection, active_only=True)

    found = _served(ask)
    queue.know(found)
    return found


def _sessions(parts: Platform, calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
    return _served(lambda: parts.sessions_of(calendar, lo_ms, hi_ms))


def _served[T](ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        if trouble_of(error) is None and not isinstance(error, sa.exc.ProgrammingError):  # of a schema not made yet
            raise
        raise Unavailable(reason(error)) from error


def _shard(text: str) -> Shard:
    k, slash, n = text.partition("/")
    if not (slash and k.isascii() and k.isdigit() and n.isascii() and n.isdigit() and int(k) < int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with 0 <= K < N, such as 0/4")
    return Shard(int(k), int(n))


if __name__ == "__main__":
    sys.exit(main())
