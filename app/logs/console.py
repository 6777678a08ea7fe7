"""What third parties print, as log lines: with LOG_FORMAT=json nothing else may come to the console."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from loguru import logger


class LoggedStream(io.TextIOBase):
    """In place of sys.stdout: each printed line is logged."""

    def __init__(self) -> None:
        self._rest = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Logs every line that is whole."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                logger.bind(_template=line).info("{}", line.rstrip())
        return len(text)


def say_json(process: str, text: str, stream: Any = None) -> None:
    """Writes a line from inside a signal handler, where a logger's lock may be taken already: locks nothing."""
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": now, "level": "INFO", "logger": "celery", "message": text, "process": process, "pid": os.getpid()}
    to = stream or sys.__stderr__
    if to is not None:
        with suppress(OSError, ValueError):
            os.write(to.fileno(), orjson.dumps(line) + b"\n")
