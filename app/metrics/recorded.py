"""Every metric that a process records itself. Each has a label, so that none has a value before start() was called.

Labels take few values: an exchange, a task, a route's template; never a symbol, an address or an id.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for

RECORDED = CollectorRegistry()
LAGS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
TASKS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUESTS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
ROWS = (0, 1, 10, 50, 100, 250, 500, 1000, 2500, 5000)

TRADES = Counter("market_trades", "Rows of trades applied to bars", ("exchange",), registry=RECORDED)
BATCH = Histogram(
    "market_batch_trades", "Rows of trades in a committed batch", ("exchange",), buckets=ROWS, registry=RECORDED
)
QUEUED = Histogram(
    "market_enqueue_to_commit_seconds", "From a live batch's hand-over to the broker until it is committed",
    ("exchange",), buckets=LAGS_S, registry=RECORDED,
)  # fmt: skip
LAG = Histogram(
    "market_trade_to_commit_seconds", "From the oldest live trade of a batch, by exchange time, until it is committed",
    ("exchange",), buckets=LAGS_S, registry=RECORDED,
)  # fmt: skip
TASK = Histogram("market_task_duration_seconds", "How long a task ran", ("task",), buckets=TASKS_S, registry=RECORDED)
TASKS = Counter("market_tasks", "Tasks that ended, by how they ended", ("task", "state"), registry=RECORDED)
CACHE = Counter("market_chart_cache_lookups", "Charts looked up in Redis", ("result",), registry=RECORDED)
REQUEST = Histogram(
    "market_http_request_duration_seconds", "How long a request took, WebSockets apart", ("route", "method", "status"),
    buckets=REQUESTS_S, registry=RECORDED,
)  # fmt: skip
SOCKETS = Gauge(
    "market_websocket_clients", "WebSockets that are open", ("route",), multiprocess_mode="livesum", registry=RECORDED
)

ENDED = ("success", "failure", "retry", "rejected", "lost")
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


def begin_tasks(names: Iterable[str]) -> None:
    """Give every count of these tasks its zero: a rate sees the first failure only where a zero stood before it."""
    for name in names:
        TASK.labels(name)
        for state in ENDED:
            TASKS.labels(name, state)


def task_ended(name: str, state: str, *, seconds: float | None = None) -> None:
    """Record the end of a task; without `seconds` where its process did not live to tell them."""
    TASKS.labels(name, state if state in ENDED else "other").inc()
    if seconds is not None:
        TASK.labels(name).observe(seconds)


def batch_committed(exchange: str, *, rows: int, accepted: int, queued_s: float | None, lag_s: float | None) -> None:
    """Record a batch of trades; lags are None where they say nothing, as those of an import do."""
    TRADES.labels(exchange).inc(accepted)
    BATCH.labels(exchange).observe(rows)
    if queued_s is not None:
        QUEUED.labels(exchange).observe(max(0.0, queued_s))
    if lag_s is not None:
        LAG.labels(exchange).observe(max(0.0, lag_s))


def request_ended(route: str, method: str, status: int, *, seconds: float) -> None:
    """Record a request under its route's template and its status's hundred."""
    REQUEST.labels(route, method if method in METHODS else "other", f"{status // 100}xx").observe(seconds)


def chart_looked_up(*, hit: bool) -> None:
    """Record a look into the chart cache."""
    CACHE.labels("hit" if hit else "miss").inc()


def socket_opened(route: str) -> None:
    """Record one more open WebSocket."""
    SOCKETS.labels(route).inc()


def socket_closed(route: str) -> None:
    """Record one WebSocket less."""
    SOCKETS.labels(route).dec()
