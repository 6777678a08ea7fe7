"""The standard library's logging (celery, gunicorn, SQLAlchemy, aiohttp, tornado…) ends in loguru."""

from __future__ import annotations

import logging
from types import FrameType

from loguru import logger

# Third parties that tell every request, frame or task at INFO: ten lines a second would bury what matters.
# At DEBUG websockets tells every frame, and Alpaca's first one holds the key, in hex that no redactor finds.
CHATTY = (
    "werkzeug", "urllib3", "aiohttp.access", "alembic.runtime.plugins", "tornado.access", "kombu",
    "celery.worker.strategy", "celery.app.trace", "celery.beat", "websockets",
)  # fmt: skip
_LOUD = {"WARNING": logging.WARNING, "DEBUG": logging.DEBUG, "TRACE": logging.DEBUG}


class InterceptHandler(logging.Handler):
    """Hands the records of the standard library's logging to loguru, with the caller's place kept."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        frame: FrameType | None = logging.currentframe()
        depth = 0
        while frame is not None and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError) as error:
            text = f"{record.msg!r} with arguments that do not fit it: {error}"
        about = record.args.get("name") if isinstance(record.args, dict) else None  # celery: the task's name
        told = logger.bind(_template=f"{record.name} {record.msg} {about}")
        told.opt(depth=depth, exception=record.exc_info).log(level, text)


def intercept(level: str) -> None:
    """Takes over the root logger and every logger that has handlers of its own."""
    least = _LOUD.get(level, logging.INFO)
    logging.basicConfig(handlers=[InterceptHandler()], level=least, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        existing = logging.getLogger(name)
        if existing.handlers:
            existing.handlers.clear()
            existing.propagate = True
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))
