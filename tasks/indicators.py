"""Tasks of indicators: what the bars' marks in the outbox ask for is computed."""

from __future__ import annotations

from celery import shared_task

from tasks.base import PlatformTask, platform


@shared_task(name="tasks.indicators.derive", base=PlatformTask)
def derive(shard: int) -> None:
    """Makes the indicators that the shard's touched bars ask for, and has charts hear of them."""
    if platform().derive.run(shard).marks:
        platform().publish.run()
