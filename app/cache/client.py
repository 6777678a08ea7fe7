"""A process's client of Redis, by its settings."""

from __future__ import annotations

import redis

from app.cache.addresses import connect
from app.config import Settings
from app.errors import ConfigError


def make_redis(settings: Settings, *, patience_s: float = 3) -> redis.Redis:
    """A client that neither hangs on a half-open connection nor retries for long; nothing connects yet."""
    if not settings.redis_url:
        raise ConfigError("REDIS_URL is not set, and no running platform gives one: start it with `python -m app up`")
    return connect(
        settings.redis_url, socket_timeout=patience_s, socket_connect_timeout=patience_s, health_check_interval=15
    )
