"""gunicorn's own messages, of its arbiter too, and gevent's, in the platform's logs."""

from __future__ import annotations

from typing import Any

import gevent
from gunicorn import glogging

from app.config import load_settings
from app.logs import logger, setup_logging


def log_greenlets() -> None:
    """Have gevent tell the log which greenlet failed, and not stderr, where it would be neither JSON nor redacted."""

    def told(context: Any, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        logger.opt(exception=(kind, error, trace)).error("a greenlet failed: {}", context)

    gevent.get_hub().print_exception = told


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """Logs like every other process; the arbiter in a file of its own, since a file has one writer."""

    def setup(self, cfg: Any) -> None:
        """Take gunicorn's handlers away and hand its records on."""
        super().setup(cfg)
        settings = load_settings()
        setup_logging(settings, process=f"{settings.process_name or 'web'}-arbiter")
