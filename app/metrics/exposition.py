"""How metrics leave a process: as text for the web's route, or from a small server of a process that has no web."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from loguru import logger
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.metrics.files import recorded, start

CONTENT_TYPE = CONTENT_TYPE_LATEST
VERSION = "0.1.0"


class Build(Collector):
    """Which version serves."""

    def collect(self) -> Iterator[Metric]:
        """Always 1; the version is the label."""
        family = GaugeMetricFamily("market_build_info", "The version that runs", labels=["version"])
        family.add_metric([VERSION], 1.0)
        yield family


def registry(*more: Collector, alone: bool = True) -> CollectorRegistry:
    """Everything that a process hands out: what was recorded, its own memory and CPU time, its version, and `more`.

    Where it is not `alone` on its port, its own memory and CPU time are left out: the next scrape reaches another
    process, and a counter that goes back counts as one that began again.
    """
    found = CollectorRegistry(auto_describe=False)
    own = [ProcessCollector(registry=None)] if alone else []
    for collector in (recorded(), *own, Build(), *more):
        found.register(collector)
    return found


def expose(*more: Collector, alone: bool = True) -> bytes:
    """All metrics in Prometheus's text format."""
    return generate_latest(registry(*more, alone=alone))


def serve(folder: Path, host: str, port: int) -> WSGIServer | None:
    """Record into `folder`, and serve it on a port of its own unless that is 0; one that is taken is no reason to end.

    The server is a thread. Its socket is closed in forked children: one that outlives us must not keep the port.
    """
    start(folder)
    if not port:
        return None
    try:
        server, _ = start_http_server(port, addr=host, registry=registry())
    except OSError as error:
        logger.error(
            "metrics are not served on {}:{} ({}): give each process of a machine another METRICS_PORT, or none, since "
            "/metrics of the web process has all of them", host, port, error.strerror or error,
        )  # fmt: skip
        return None
    os.register_at_fork(after_in_child=server.socket.close)
    logger.info("metrics on http://{}:{}/metrics", host, port)
    return server
