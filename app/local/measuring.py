"""What Celery's processes record: how long each task ran and how it ended; and where a worker serves its metrics."""

from __future__ import annotations

import time
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import signals

from app.config import Settings
from app.metrics import recorded, serve
from app.metrics.files import start


def connect_metrics(settings: Settings) -> None:
    """Has Celery's workers and beat record and serve their metrics; nothing is recorded before they run."""
    began: dict[str, float] = {}

    def open_folder(**_: Any) -> None:
        start(settings.metrics_folder)  # before the pool forks: each child goes on in files of its own

    def ready(**_: Any) -> None:
        serve(settings.metrics_folder, settings.metrics_host, settings.metrics_port)

    def ready_worker(sender: Any, **_: Any) -> None:
        names = sender.app.tasks
        recorded.begin_tasks(name for name in names if name.startswith("tasks."))
        ready()

    def before(task_id: str, **_: Any) -> None:
        began[task_id] = time.perf_counter()

    def after(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
        since = began.pop(task_id, None)
        seconds = None if since is None else time.perf_counter() - since
        recorded.task_ended(task.name, (state or "other").lower(), seconds=seconds)

    def failed(sender: Any, exception: BaseException, **_: Any) -> None:
        if isinstance(exception, TimeLimitExceeded):  # told by the worker: it has killed the child
            recorded.task_ended(sender.name, "lost")

    for signal, receiver in (
        (signals.worker_init, open_folder),
        (signals.worker_ready, ready_worker),
        (signals.beat_init, ready),
        (signals.task_prerun, before),
        (signals.task_postrun, after),
        (signals.task_failure, failed),
    ):
        signal.connect(receiver, weak=False)
