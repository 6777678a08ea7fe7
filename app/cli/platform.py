"""What the commands share: the running platform's settings, its database and its Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.config import Settings, load_settings
from app.errors import Unavailable
from app.local.runfile import attach

if TYPE_CHECKING:
    import redis
    import sqlalchemy as sa

UNDEFINED_TABLE = "42P01"


def attached_settings() -> Settings:
    """The settings, with the running platform's addresses; raises NotRunning."""
    return attach(load_settings())


@contextmanager
def database_errors() -> Iterator[None]:
    """What goes wrong with the database inside, as Unavailable."""
    import sqlalchemy as sa

    from app.storage.trouble import Trouble, reason, trouble_of

    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        if (trouble := trouble_of(error)) is Trouble.AWAY:
            raise Unavailable(f"the database cannot be reached: {reason(error)}") from error
        if trouble is not None:
            raise Unavailable(f"the database did not do it, {trouble.value}: {reason(error)}") from error
        if getattr(getattr(error, "orig", None), "pgcode", "") != UNDEFINED_TABLE:
            raise
        raise Unavailable("the database has no schema yet: run `python -m app db upgrade`") from error


@contextmanager
def database(settings: Settings) -> Iterator[sa.Connection]:
    """A connection in one transaction; raises Unavailable when the database cannot be reached."""
    from app.storage.engine import make_engine

    engine = make_engine(settings, process="cli")
    try:
        with database_errors(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def cache(settings: Settings) -> Iterator[redis.Redis]:
    """A Redis client; raises Unavailable when Redis cannot be reached."""
    import redis

    from app.cache.addresses import connect

    client = connect(settings.redis_url, socket_timeout=3, socket_connect_timeout=3)
    try:
        yield client
    except redis.RedisError as error:
        raise Unavailable(f"Redis cannot be reached: {_first_line(error)}") from error
    finally:
        client.close()


def exchange_now_us(settings: Settings) -> int:
    """Exchange time (µs): the simulated market's clock, or the machine's with a live one."""
    import json
    import urllib.request

    if settings.market == "live":
        return time.time_ns() // 1000
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{settings.binance_api_url}/sandbox/clock", timeout=3) as answer:
            clock = json.load(answer)
    except OSError as error:
        raise Unavailable(f"the simulated market at {settings.binance_api_url} does not answer") from error
    return int(clock["exchange_us"] + (time.time_ns() // 1000 - clock["wall_us"]) * clock["speed"])


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", 1)[0]
