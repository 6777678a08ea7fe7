"""The worker's side of a task: a pool child that is killed tells nothing, so its worker does."""

from __future__ import annotations

from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from app.metrics import recorded


class CountedRequest(Request):  # type: ignore[misc]  # celery has no types
    """Counts tasks whose process was lost while they ran; Celery gives them back to their queue without a word."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Counts, and goes on."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # of a child's it is wrapped
        if isinstance(error, WorkerLostError):
            recorded.task_ended(self.task.name, "lost")
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
