"""gunicorn's settings: one gevent worker, and a database driver that waits in green.

Read by `gunicorn -c webapp/gunicorn_conf.py 'webapp:create_app()'` before the application is imported, so that
everything it imports is patched already. Only this process is: COPY is impossible in green mode.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
from typing import Any  # noqa: E402

from psycogreen.gevent import patch_psycopg  # noqa: E402

from app.config import load_settings  # noqa: E402
from app.logs import setup_logging  # noqa: E402

_settings = load_settings()

bind = [f"{_settings.web_host}:{_settings.web_port}"]
worker_class = "gevent"
workers = 1  # one Redis subscription and one set of live bars for all clients
worker_connections = 4000
keepalive = 30
timeout = 60
graceful_timeout = 2  # WebSockets never end by themselves
control_socket_disable = True
limit_request_line = 4094  # bytes: the longest address, a JWT in it too
limit_request_fields = 64
limit_request_field_size = 8190
forwarded_allow_ips = ""  # TRUSTED_PROXIES alone says whose X-Forwarded-… headers count
accesslog = None
proc_name = "market-web"


def post_fork(server: Any, worker: Any) -> None:
    """Make psycopg2 wait in green in the worker, and log like every other process."""
    patch_psycopg()
    setup_logging(_settings, process=_settings.process_name or "web")


def post_worker_init(worker: Any) -> None:
    """Take what is loaded out of the collections to come: it stays, and looking at it holds up every client."""
    gc.collect()
    gc.freeze()
