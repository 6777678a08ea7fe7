"""The task of backfills."""

from __future__ import annotations

from celery import current_app, shared_task

from tasks.base import PlatformTask, platform


@shared_task(name="tasks.backfill.run", base=PlatformTask, patient=True)
def run(backfill_id: int) -> None:
    """Works on a backfill for some seconds and hands on what is left."""
    if platform().backfill.run(backfill_id):
        current_app.send_task("tasks.backfill.run", args=(backfill_id,))
