"""gunicorn's settings: gevent workers, and a database driver that waits in green.

Read by `gunicorn -c webapp/gunicorn_conf.py 'webapp:create_app()'` before the application is imported, so that
everything it imports is patched already. Only this process is: COPY is impossible in green mode.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from psycogreen.gevent import patch_psycopg  # noqa: E402

from app.config import load_settings  # noqa: E402
from app.local.gunicorn_logs import log_greenlets  # noqa: E402
from app.local.heart import Heart, heart_of  # noqa: E402
from app.local.lifecycle import mark_ready  # noqa: E402
from app.logs import setup_logging  # noqa: E402
from app.metrics import start  # noqa: E402
from webapp import no_http  # noqa: E402
from webapp.slots import names_of, others_of, slot_of  # noqa: E402

_settings = load_settings()
_hearts: list[Heart] = []

bind = [f"{_settings.web_host}:{_settings.web_port}"]
worker_class = "gevent"
workers = _settings.web_workers  # each has one Redis subscription and one set of live bars for all its clients
preload_app = True  # the application is ready before the port is open
reuse_port = _settings.ready_file is not None  # a successor that `up` starts listens beside its predecessor
worker_connections = 4000
keepalive = 30
timeout = 60
graceful_timeout = 2  # WebSockets never end by themselves
control_socket_disable = True
limit_request_line = 4094  # bytes: the longest address, a JWT in it too
limit_request_fields = 64
limit_request_field_size = 8190
forwarded_allow_ips = ""  # TRUSTED_PROXIES alone says whose X-Forwarded-… headers count
accesslog = None  # webapp/request_log.py has it, with the ids of requests
logger_class = "app.local.gunicorn_logs.Logger"
proc_name = "market-web"


def pre_fork(server: Any, worker: Any) -> None:
    """Let what the application started end first: a timer of `limits` would end in the worker, without its thread."""
    gevent.sleep(0.05)
    worker.slot = slot_of(range(1, server.num_workers + 1), server.WORKERS.values())


def post_fork(server: Any, worker: Any) -> None:
    """Make psycopg2 wait in green in the worker, and log like every other process."""
    patch_psycopg()
    no_http.install()
    setup_logging(_settings, process=_settings.process_name or "web")
    log_greenlets()
    start(_settings.metrics_folder)


def post_worker_init(worker: Any) -> None:
    """Once the application is loaded, tell `up`, and listen; the heart beats in the loop that answers requests."""
    mark_ready(_settings)
    named, process, most = _settings.named, _settings.process_name or "web", max(workers, worker.slot)
    others = [named(name) for name in others_of(process, most)]
    heart = heart_of(_settings, named(names_of(process, most)[worker.slot - 1]), instead_of=others)
    _hearts.append(heart)

    def beats() -> None:
        while True:
            heart.beat()
            gevent.sleep(1.0)

    gevent.spawn(beats)
    worker.wsgi.extensions["web"].hub.listen()
    # What is loaded stays: collections to come need not look at it, which would hold up every client.
    gc.collect()
    gc.freeze()


def worker_exit(server: Any, worker: Any) -> None:
    """A worker that ends takes its heartbeat back."""
    for heart in _hearts:
        heart.stop()
