"""Every Redis key and channel of the platform, named here and nowhere else."""

from __future__ import annotations

CHART_UPDATES = "chart_updates"  # pub/sub: bars that changed, JSON (app.domain.updates)
COMPLETED_BARS = "completed_bars"  # pub/sub: bars that closed, were verified or revised, JSON
WATCHLIST = "watchlist"  # pub/sub: the instruments table changed
WATCHLIST_VERSION = "watchlist-version"  # a token that changes with each of those messages
CHART_SERVER = "chart-server"  # the run of the server whose charts were all made void at its start
HEALTH = "system:health"  # hash: process name → JSON heartbeat
COUNTERS = "system:counters"  # hash: reason → count
QUOTES = "quotes"  # hash: exchange:symbol → JSON last trade price and time
BOOK = "book"  # hash: exchange:symbol → JSON best bid and ask: bid, bid_size, ask, ask_size, time (exchange ms)
HALTS = "halts"  # hash: exchange:symbol → JSON trading status that is not normal: code, reason, time (exchange ms)
DELIVERIES = "deliveries:"  # + task id: how often it was delivered
REQUESTS = "requests"  # + :…: how many requests an address has made in a window (Flask-Limiter's counters)
NEWER = "newer:"  # + task id: when an older worker first gave the message back
BATCHES = "batches"  # stream: the last batches that were committed (app.cache.trail)
PARKED = "parked"  # list: messages that failed (app.cache.parked)


def chart(exchange: str, symbol: str, timeframe: str) -> str:
    """The encoded chart of a series: its newest closed bars and indicators."""
    return f"chart:{exchange}:{symbol}:{timeframe}"


def indicators(exchange: str, symbol: str, timeframe: str) -> str:
    """The newest indicator values of a series."""
    return f"indicators:{exchange}:{symbol}:{timeframe}"


def generation(exchange: str, symbol: str) -> str:
    """A token that changes whenever a stored bar or indicator of the instrument changed; guards `chart`."""
    return f"chart-generation:{exchange}:{symbol}"


def live(exchange: str, symbol: str) -> str:
    """A token that changes with each message about the instrument; with `generation` it guards remembered answers."""
    return f"chart-live:{exchange}:{symbol}"


def tape(exchange: str) -> str:
    """Pub/sub: the trades of an exchange (off by default)."""
    return f"trades:{exchange}"


def limit(source: str) -> str:
    """What a source's rate limit has left, shared by all processes."""
    return f"limit:{source}"


def polls(source: str) -> str:
    """Hash: instrument id → JSON [asked_ms, failures, not_before_s, error] of a polled source."""
    return f"polls:{source}"


def poll_rest(source: str) -> str:
    """While this key lives nobody polls the source."""
    return f"poll-rest:{source}"
