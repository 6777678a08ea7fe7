"""The tasks of backfills."""

from __future__ import annotations

from celery import current_app, shared_task

from tasks.base import PlatformTask, platform


@shared_task(name="tasks.backfill.run", base=PlatformTask, patient=True)
def run(backfill_id: int) -> None:
    """Works on a backfill for a turn of some seconds, then gives those their turn who wait for it."""
    platform().backfill.run(backfill_id)
    start_due()


@shared_task(name="tasks.backfill.start", base=PlatformTask)
def start() -> None:
    """Starts what was just asked for; the beat's sweep would, too, some seconds later."""
    start_due()


def start_due() -> None:
    """Starts the backfills whose turn it is, each in a task of its own."""
    for due_id in platform().backfill.due():
        current_app.send_task("tasks.backfill.run", args=(due_id,), argsrepr=f"backfill {due_id}")
