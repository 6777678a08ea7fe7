"""Logging of every process: loguru to the console and to `logs/<process>.log`, with secrets taken out.

Each process has a file of its own name, so that rotation at midnight is done by one writer. The standard library's
logging (celery, gunicorn, SQLAlchemy, aiohttp…) ends in the same place.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from loguru import logger
from pydantic import SecretStr

from app.config import Settings

if TYPE_CHECKING:
    from loguru import FormatFunction, Record

__all__ = ["logger", "setup_logging"]

_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):([^\s@/]+)@")
_LOUD = {"WARNING": logging.WARNING, "DEBUG": logging.DEBUG, "TRACE": logging.DEBUG}
# Third parties that tell every request, frame or task at INFO: ten lines a second would bury what matters.
# At DEBUG websockets tells every frame, and Alpaca's first one holds the key, in hex that no redactor finds.
_CHATTY = (
    "werkzeug", "urllib3", "aiohttp.access", "alembic.runtime.plugins", "tornado.access", "kombu",
    "celery.worker.strategy", "celery.app.trace", "celery.beat", "websockets",
)  # fmt: skip


class Redactor:
    """Replaces secrets in a text: the values the settings hold, and the password of any URL."""

    def __init__(self, settings: Settings) -> None:
        secrets: set[str] = set()
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                secrets.add(value.get_secret_value())
            elif name.endswith("_api_key"):
                secrets.add(value)
            elif name.endswith("_url"):
                secrets.update(found[1] for found in _URL_PASSWORD.findall(value))
        # Longest first: a secret that contains another one goes as a whole.
        self._secrets = sorted((text for text in secrets if len(text) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _URL_PASSWORD.sub(r"\1:***@", text)


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
        logger.opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())


def setup_logging(settings: Settings, *, process: str) -> None:
    """Send all logs of this process to the console and to `logs/<process>.log`, if they are not off."""
    redact = Redactor(settings)
    logger.remove()
    if settings.log_console and sys.stderr is not None:
        logger.add(
            sys.stderr, level=settings.log_level, format=_format(redact, colour=True), backtrace=False, diagnose=False
        )
    if settings.log_files:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        logger.add(
            settings.log_dir / f"{process}.log",
            level=settings.log_level,
            format=_format(redact, colour=False),
            rotation="00:00",
            retention="30 days",
            compression="zip",
            delay=True,
            backtrace=False,
            diagnose=False,  # it would print the values of variables, secrets among them
        )
    logger.configure(extra={})
    _intercept(_LOUD.get(settings.log_level, logging.INFO))


def _intercept(level: int) -> None:
    logging.basicConfig(handlers=[InterceptHandler()], level=level, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        existing = logging.getLogger(name)
        if existing.handlers:
            existing.handlers.clear()
            existing.propagate = True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _format(redact: Redactor, *, colour: bool) -> FormatFunction:
    head = (
        "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> <cyan>{name}</cyan> "
        if colour
        else "{time:YYYY-MM-DD HH:mm:ss.SSSZZ} {level: <7} {process.id} {name} "
    )

    def layout(record: Record) -> str:
        fields = " ".join(f"{key}={value}" for key, value in record["extra"].items() if not key.startswith("_"))
        record["extra"]["_text"] = redact(f"{record['message']} {fields}".rstrip())
        error = record["exception"]
        if error is None or error.value is None:
            return head + "{extra[_text]}\n"
        record["extra"]["_trace"] = redact("".join(traceback.format_exception(error.value))).rstrip()
        return head + "{extra[_text]}\n{extra[_trace]}\n"

    return layout
