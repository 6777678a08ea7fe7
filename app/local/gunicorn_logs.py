"""gunicorn's own messages, of its arbiter too, in the platform's logs."""

from __future__ import annotations

from typing import Any

from gunicorn import glogging

from app.config import load_settings
from app.logs import setup_logging


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """Logs like every other process; the arbiter in a file of its own, since a file has one writer."""

    def setup(self, cfg: Any) -> None:
        """Take gunicorn's handlers away and hand its records on."""
        super().setup(cfg)
        settings = load_settings()
        setup_logging(settings, process=f"{settings.process_name or 'web'}-arbiter")
