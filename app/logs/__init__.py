"""Logging of every process: loguru to the console and to `logs/<process>.log`, with secrets taken out.

Each process has a file of its own name, so that it is rotated by one writer. The standard library's logging (celery,
gunicorn, SQLAlchemy, aiohttp…) ends in the same place. `LOG_FORMAT=json` makes every line a JSON object.
"""

from __future__ import annotations

import atexit
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from app.config import Settings
from app.logs.files import LogFile
from app.logs.intercept import intercept
from app.logs.layout import Layout, fields_of, json_line, text_line, text_of
from app.logs.redact import Redactor
from app.logs.repeats import Repeats, Story

if TYPE_CHECKING:
    from loguru import PatcherFunction, Record

__all__ = ["Redactor", "flush_logs", "logger", "setup_logging"]

MB = 1 << 20
_LEAST_REPEATED = 30  # WARNING: what is below is never swallowed
_CONSOLE = "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> <cyan>{name}</cyan> {extra[_text]}\n"
_repeats: list[Repeats] = []  # the one of this process


def setup_logging(settings: Settings, *, process: str) -> None:
    """Send all logs of this process to the console and to `logs/<process>.log`, if they are not off."""
    redact = Redactor(settings)
    as_json = settings.log_format == "json"
    line = json_line(redact, process=process) if as_json else text_line(redact)
    coloured = settings.log_console and not as_json
    repeats = Repeats(_tell, most=settings.log_repeats, window_s=settings.log_repeats_s)
    _repeats[:] = [repeats]
    logger.remove()
    logger.configure(extra={}, patcher=_patcher(line, text=redact if coloured else None, repeats=repeats))
    if settings.log_console and sys.stderr is not None:
        shown = "{extra[_line]}\n" if as_json else _CONSOLE
        _add(sys.stderr, settings.log_level, lambda _: shown)
    if settings.log_files:
        file = LogFile(
            settings.log_dir / f"{process}.log",
            most_bytes=settings.log_file_mb * MB,
            total_bytes=settings.log_total_mb * MB,
        )
        _add(file, settings.log_level, lambda _: "{extra[_line]}\n")
    intercept(settings.log_level)
    sys.excepthook = _uncaught(redact, quiet=as_json or settings.log_console)


def flush_logs() -> None:
    """Tells what was swallowed; to be called at the end of a process that ends without atexit."""
    for repeats in _repeats:
        repeats.flush()


atexit.register(flush_logs)


def _uncaught(redact: Redactor, *, quiet: bool) -> Callable[[type[BaseException], BaseException, Any], None]:
    """What ends the process is logged as anything else is; without a console also told on stderr, secrets out."""

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        logger.opt(exception=(kind, error, trace)).critical("ended by an error that nobody caught")
        if not quiet and sys.stderr is not None:
            print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)

    return hook


def _add(sink: LogFile | TextIO, level: str, layout: Callable[[Record], str]) -> None:
    logger.add(
        sink,
        level=level,
        format=layout,
        filter=lambda record: "_swallowed" not in record["extra"],
        backtrace=False,
        diagnose=False,  # it would print the values of variables, secrets among them
    )


def _patcher(line: Layout, *, text: Redactor | None, repeats: Repeats) -> PatcherFunction:
    """Judges a record and lays it out, once for all sinks; `text` for a console in colours."""

    def patch(record: Record) -> None:
        extra = record["extra"]
        place = extra.get("_place")
        if place is not None:
            record["name"] = place
        elif record["level"].no >= _LEAST_REPEATED and not repeats.admits(_key(record), lambda s: _keep(s, record)):
            extra["_swallowed"] = True
            return
        extra["_line"] = line(record)
        if text is not None:
            extra["_text"] = text_of(record, text)

    return patch


def _key(record: Record) -> tuple[object, ...]:
    """What makes two messages the same: their place, their template where it is known, their error, their task."""
    error, extra = record["exception"], record["extra"]
    kind = error.type if error is not None else None
    return record["file"].path, record["line"], record["level"].no, kind, extra.get("_template"), extra.get("task")


def _keep(story: Story, record: Record) -> None:
    story.level, story.place, story.text = record["level"].name, record["name"] or "", record["message"]
    story.fields = fields_of(record)


def _tell(story: Story, seconds: float) -> None:
    fields = {key: value for key, value in story.fields.items() if key not in ("message", "level")}
    told = logger.bind(**fields, repeated=story.swallowed, _place=story.place)
    told.log(story.level, "{}", f"… {story.swallowed:,} times more in the last {seconds:.0f} s: {story.text}")
