"""What a child does to tell `up` that it serves, how Celery's processes log, and how their hearts beat."""

from __future__ import annotations

import gc
import sys
from typing import Any

from celery import signals

from app.config import Settings
from app.local.heart import Heart, heart_of
from app.logs import flush_logs, setup_logging
from app.logs.console import LoggedStream, say_json


def mark_ready(settings: Settings) -> None:
    """Makes the READY_FILE that `up` waits for; does nothing for a process started by hand."""
    if settings.ready_file is not None:
        settings.ready_file.touch()


def connect_celery(settings: Settings) -> None:
    """Has Celery's workers and beat log through loguru and tell when they are ready; and Flower's heart beat."""
    name = settings.process_name or "celery"

    def log(**_: Any) -> None:
        setup_logging(settings, process=name)

    def log_child(**_: Any) -> None:
        # A pool child writes a file of its own: two writers would both rotate one at midnight.
        from billiard.process import current_process

        setup_logging(settings, process=f"{name}-{getattr(current_process(), 'index', 0)}")

    def end_child(**_: Any) -> None:
        flush_logs()  # a pool child ends without atexit

    def without_banner(instance: Any, **_: Any) -> None:
        instance.quiet = instance.quiet or settings.log_format == "json"  # it is no JSON

    if settings.log_format == "json":
        _keep_console_json(settings, name)

    def ready(**_: Any) -> None:
        mark_ready(settings)

    def preload(instance: Any, **_: Any) -> None:
        # Before the pool forks: its children share these 100 MB instead of holding them each.
        if "indicators" in instance.app.amqp.queues.consume_from:
            from app.domain import indicators

            indicators.preload()
            gc.freeze()

    for signal, receiver in (
        (signals.setup_logging, log),
        (signals.worker_process_init, log_child),
        (signals.worker_process_shutdown, end_child),
        (signals.celeryd_init, without_banner),
        (signals.celeryd_after_setup, preload),
        (signals.worker_ready, ready),
        (signals.beat_init, ready),
    ):
        signal.connect(receiver, weak=False)
    _connect_worker(settings)
    if settings.process_name == "flower":
        signals.import_modules.connect(lambda **_: _beat_in_tornado(settings), weak=False)


def _connect_worker(settings: Settings) -> None:
    """A worker's heart beats with Celery's own heartbeat: in the loop that takes messages, while it can take any."""
    worker: dict[str, Any] = {}

    def begin(sender: Any, **_: Any) -> None:
        worker["pool"] = sender.pool
        name = settings.process_name
        worker["heart"] = heart_of(settings, settings.named(name) if name else sender.hostname)
        beat()

    def beat(**_: Any) -> None:
        heart: Heart | None = worker.get("heart")
        if heart is not None and (alive := _alive(worker["pool"])) != 0:
            heart.beat({} if alive is None else {"pool": alive})

    signals.worker_ready.connect(begin, weak=False)
    signals.heartbeat_sent.connect(beat, weak=False)


def _alive(pool: Any) -> int | None:
    """How many of the pool's child processes live; None for a pool without any."""
    processes = getattr(getattr(pool, "_pool", None), "_pool", None)
    return None if processes is None else sum(process.is_alive() for process in processes)


def _beat_in_tornado(settings: Settings) -> None:
    """Flower's heart beats in the loop that answers its requests."""
    from tornado.ioloop import PeriodicCallback

    heart = heart_of(settings, settings.named(settings.process_name))
    PeriodicCallback(heart.beat, 1000).start()


def _keep_console_json(settings: Settings, process: str) -> None:
    """Celery prints and warns before it sets up its logging, and writes past it from its signal handlers."""
    from celery.apps import worker

    setup_logging(settings, process=process)
    sys.stdout = LoggedStream()
    worker.safe_say = lambda text, stream=None: say_json(process, text, stream)
