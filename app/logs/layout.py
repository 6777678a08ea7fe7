"""One record as one line of text, or as one JSON object; what is private to app.logs has a name beginning with `_`."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any

import orjson

from app.logs.redact import GONE, Redactor

if TYPE_CHECKING:
    from loguru import Record

FIXED = ("time", "level", "logger", "message", "process", "pid", "exception")


def fields_of(record: Record) -> dict[str, Any]:
    """What was said beside the message, and by the context: batch, task, request."""
    return {key: value for key, value in record["extra"].items() if not key.startswith("_")}


def text_of(record: Record, redact: Redactor) -> str:
    """Message and fields in one text, the stack of an exception below."""
    told = []
    for key, value in fields_of(record).items():
        shown = redact.field(key, value)
        told.append(f"{key}={GONE if shown == GONE else value if isinstance(value, str) else shown}")
    text = redact(" ".join([record["message"], *told]).rstrip())
    error = record["exception"]
    if error is None or error.value is None:
        return text
    return text + "\n" + redact("".join(traceback.format_exception(error.value))).rstrip()


def json_of(record: Record, redact: Redactor, *, process: str) -> str:
    """The record as JSON without a line break: FIXED, and every field under its own name."""
    shown: dict[str, Any] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name,
        "logger": record["name"],
        "message": redact(record["message"]),
        "process": process,
        "pid": record["process"].id,
    }
    for key, value in fields_of(record).items():
        shown[f"{key}_" if key in FIXED else key] = redact.field(key, value)
    error = record["exception"]
    if error is not None and error.value is not None:
        shown["exception"] = {
            "type": f"{type(error.value).__module__}.{type(error.value).__qualname__}",
            "message": redact(str(error.value)),
            "stack": redact("".join(traceback.format_exception(error.value))).rstrip(),
        }
    try:
        return orjson.dumps(shown).decode()
    except (TypeError, ValueError):  # half a character of UTF-16, which JSON cannot have
        clean = {key: str(value).encode("utf-8", "replace").decode() for key, value in shown.items()}
        return orjson.dumps(clean).decode()


type Layout = Callable[[Record], str]


def text_line(redact: Redactor) -> Layout:
    """Lines for files: time with zone, level, process id, place, text."""

    def line(record: Record) -> str:
        moment = record["time"]
        head = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}{moment:%z} {record['level'].name:<7}"
        return f"{head} {record['process'].id} {record['name']} {text_of(record, redact)}"

    return line


def json_line(redact: Redactor, *, process: str) -> Layout:
    """Lines for programs."""
    return lambda record: json_of(record, redact, process=process)
