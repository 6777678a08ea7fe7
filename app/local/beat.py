"""Celery's beat with a heart: each turn of its schedule beats it."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler

from app.config import load_settings
from app.local.heart import Heart, heart_of
from app.local.runfile import attach_celery


class HeartScheduler(PersistentScheduler):  # type: ignore[misc]  # celery has no types
    """The schedule of the beat. A turn that hangs, in a broker that does not answer for instance, beats no heart."""

    _heart: Heart | None = None

    def tick(self, *arguments: Any, **options: Any) -> Any:
        """One turn; the seconds until the next."""
        wait_s = super().tick(*arguments, **options)
        if self._heart is None:
            settings = attach_celery(load_settings())
            self._heart = heart_of(settings, settings.named(settings.process_name or "beat"))
        self._heart.beat()
        return wait_s
