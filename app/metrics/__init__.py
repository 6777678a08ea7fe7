"""Prometheus metrics: what each process records of its own doing, kept in files that all processes of a machine share.

`recorded` has the metrics, `files` the folder (METRICS_DIR) they are kept in, `exposition` hands both out. What Redis
and the database know is no one process's: the web process gathers it when it is asked (webapp.figures).
"""

from __future__ import annotations

from app.metrics.exposition import expose, serve
from app.metrics.files import empty, start

__all__ = ["empty", "expose", "serve", "start"]
