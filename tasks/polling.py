"""Tasks of polling: what is asked for instead of streamed, the calendars' sessions, the daily bars of stocks."""

from __future__ import annotations

from functools import cache

from celery import current_app, shared_task

from tasks.base import PlatformTask, platform


@shared_task(name="tasks.polling.poll", base=PlatformTask)
def poll() -> None:
    """Asks for the bars that are due, and hands on what one turn has no time for."""
    _calendars_once()
    if platform().polling.run():
        current_app.send_task("tasks.polling.poll", expires=30)


@shared_task(name="tasks.polling.sessions", base=PlatformTask)
def sessions() -> None:
    """Keeps the calendars' sessions stored, from years back to a year ahead."""
    platform().calendars.run()


@shared_task(name="tasks.polling.daily", base=PlatformTask)
def daily() -> None:
    """Asks for the daily bars of sessions that are over."""
    platform().daily.run()


@cache
def _calendars_once() -> None:
    """Nothing waits a minute for the first sessions of a new database."""
    platform().calendars.run()
