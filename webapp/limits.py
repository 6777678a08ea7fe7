"""How much one address may ask for: requests in a window, sockets at a time, and from which pages."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import redis
from flask import Flask, g, request
from flask_cors import CORS
from flask_limiter import ApplicationLimit, Limiter, RateLimitExceeded
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.exceptions import RequestEntityTooLarge

from app.cache import keys
from app.cache.addresses import sentinels
from app.config import Settings
from app.services.clock import wall_us
from webapp.auth import below
from webapp.errors import Refused, answer

WAIT_S = 0.2  # longest a request waits for its counter, before counting goes on in this process's memory
CONNECTIONS = 32  # counters asked for at the same moment; more go on in memory too
FREE = ("/static/", "/api/health/live", "/sw.js", "/favicon.ico")
PREFLIGHT_S = 600
DEFAULT_PORTS = {"http": 80, "https": 443}


def install(app: Flask, settings: Settings) -> None:
    """Add CORS, rate limits and the limits of sockets; before auth, so that guesses of tokens are counted too."""
    if settings.origins:
        CORS(
            app,
            resources={r"/(api|udf)/.*": {"origins": list(settings.origins)}},
            methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match"],
            expose_headers=["ETag", "Retry-After"],
            max_age=PREFLIGHT_S,
        )
    _rates(app, settings)
    _sockets(app, settings)

    @app.before_request
    def small_enough() -> None:
        # Before anybody reads it: a view that takes no body would let it pass. Chunked ones are counted while read.
        if (request.content_length or 0) > settings.max_body_bytes:
            raise RequestEntityTooLarge


def client() -> str:
    """The address a request came from; one for all whose address is not known."""
    return request.remote_addr or "unknown"


def _rates(app: Flask, settings: Settings) -> None:
    # Where reads need a token, /metrics judges one: guesses are counted there as everywhere.
    free = FREE if settings.api_reads_need_token else (*FREE, "/metrics")
    wanted: list[str | Callable[[], str] | ApplicationLimit] = [
        ApplicationLimit(
            rate, key_function=client, methods=methods, scope=scope, exempt_when=lambda: request.path.startswith(free)
        )
        for rate, scope, methods in (
            (settings.rate_limit_reads, "reads", ("GET", "HEAD")),
            (settings.rate_limit_writes, "writes", ("POST", "PUT", "PATCH", "DELETE")),
        )
        if rate != "off"
    ]
    if not wanted:
        return
    pool = _pool(settings.redis_url)
    limiter = Limiter(
        client,
        application_limits=wanted,
        request_identifier=lambda: request.endpoint or "nowhere",  # without a name, what has no route is not counted
        storage_uri="redis://",
        storage_options={"connection_pool": pool, "key_prefix": keys.REQUESTS},  # type: ignore[dict-item]
        in_memory_fallback_enabled=True,
        swallow_errors=True,
    )
    limiter.init_app(app)
    app.register_error_handler(RateLimitExceeded, lambda error: answer(_told(limiter, error)))


def _pool(url: str) -> redis.ConnectionPool:
    options: dict[str, Any] = {
        "max_connections": CONNECTIONS, "socket_timeout": WAIT_S, "socket_connect_timeout": WAIT_S,
        "retry": Retry(NoBackoff(), 0),
    }  # fmt: skip
    found = sentinels(url)
    if found is not None:
        return found.connect(**options).connection_pool  # one connection too many is refused, not waited for
    return redis.BlockingConnectionPool.from_url(url, timeout=WAIT_S, **options)


def _told(limiter: Limiter, error: RateLimitExceeded) -> Refused:
    """The refusal of an address that asks too often, with the seconds until it may go on."""
    item = error.limit.limit
    wait_s = item.get_expiry()
    try:
        if limiter.current_limit is not None:
            wait_s = max(1, min(wait_s, limiter.current_limit.reset_at - math.floor(wall_us() / 1e6)))
    except redis.RedisError:
        pass  # the whole window, then: whoever waits so long is surely let in
    return Refused(
        429, "too_many_requests", f"one address may ask {item.amount} times a {item.GRANULARITY.name}: wait {wait_s} s",
        headers={"Retry-After": str(wait_s)},
    )  # fmt: skip


def _sockets(app: Flask, settings: Settings) -> None:
    open_sockets: Counter[str] = Counter()
    lock = threading.Lock()
    most = settings.ws_per_client

    @app.before_request
    def come() -> None:
        if request.headers.get("Upgrade", "").lower() != "websocket" or not below(request.path, "/ws"):
            return
        origin = request.headers.get("Origin")
        if origin is not None and not allowed(origin, request.host, settings.origins):
            raise Refused(
                403, "origin_refused", "pages of this origin may not connect: CORS_ORIGINS has those that may"
            )
        address = client()
        with lock:
            if open_sockets[address] >= most:
                raise Refused(
                    429, "too_many_sockets", f"{most} WebSockets of this address are open already: close some",
                    headers={"Retry-After": "10"},
                )  # fmt: skip
            open_sockets[address] += 1
        g.socket_of = address

    @app.teardown_request
    def go(_error: BaseException | None) -> None:
        address = g.pop("socket_of", None)
        if address is not None:
            with lock:
                open_sockets[address] -= 1
                if open_sockets[address] <= 0:
                    del open_sockets[address]


def allowed(origin: str, host: str, listed: tuple[str, ...]) -> bool:
    """Whether a page of `origin` may connect: one of our own host, or one that is listed."""
    if origin.lower() in listed:
        return True
    try:
        page = urlsplit(origin.lower())
        own = urlsplit(f"{page.scheme}://{host.lower()}")
        usual = DEFAULT_PORTS.get(page.scheme)
        return page.hostname is not None and (page.hostname, page.port or usual) == (own.hostname, own.port or usual)
    except ValueError:
        return False  # a port that is none
