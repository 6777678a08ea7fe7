"""The log file of a process: a new one at midnight or when it is long, old ones zipped, all of them bounded.

A file has one writer, since it is rotated: where a process of the same name is at work (a second web worker, the
predecessor in a rolling restart), the next takes `web.2.log`.

A disk that is full or gone costs lines, not the process: it is said once on stderr, and how many lines were lost is
said in the file as soon as it can be written again.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson

KEEP_DAYS = 30
OLD = "*.log.zip"
WRITERS = 32  # of one name, at most; then the last file has several


def _taken(file: IO[str]) -> bool:
    """Whether another process writes the file; from now on this one does. The lock ends with the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


class LogFile:
    """A sink of loguru; opened with its first line."""

    def __init__(
        self, path: Path, *, most_bytes: int, total_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._first = self._path = path
        self._most, self._total, self._clock = most_bytes, total_bytes, clock
        self._file: IO[str] | None = None
        self._day = ""
        self._size = 0
        self._lost = 0
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Writes a line, or counts it as lost."""
        with self._lock:
            try:
                self._write(line)
            except (OSError, ValueError) as error:
                self._lose(error)

    def stop(self) -> None:
        """Closes the file."""
        with self._lock, suppress(OSError):
            self._close()

    def _write(self, line: str) -> None:
        now = self._now()
        size = len(line.encode("utf-8", "replace"))
        if self._file is None:
            self._open()
        if self._size and (f"{now:%Y-%m-%d}" != self._day or self._size + size > self._most):
            self._rotate(now)
        file = self._file
        assert file is not None
        lost, self._day = self._lost, f"{now:%Y-%m-%d}"
        if lost:
            file.write(self._told_lost(line, lost))
        file.write(line)
        file.flush()
        self._size += size
        self._lost = 0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock())  # noqa: DTZ006  # midnight where the machine is

    def _open(self) -> None:
        self._first.parent.mkdir(parents=True, exist_ok=True)
        for n in range(1, WRITERS + 1):
            self._path = self._first if n == 1 else self._first.with_suffix(f".{n}.log")
            self._file = self._path.open("a", encoding="utf-8", errors="replace")
            if _taken(self._file) and n < WRITERS:
                self._close()
                continue
            break
        status = self._path.stat()
        self._size = status.st_size
        self._day = f"{datetime.fromtimestamp(status.st_mtime):%Y-%m-%d}"  # noqa: DTZ006

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _rotate(self, now: datetime) -> None:
        self._close()
        old = self._path.with_name(f"{self._path.stem}.{now:%Y-%m-%d_%H-%M-%S_%f}.log")
        self._path.rename(old)
        self._open()
        try:
            with zipfile.ZipFile(f"{old}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(old, old.name)
            old.unlink()
            self._prune(now)
        except OSError as error:  # the lines are in the old file; only it stays as long as it is
            print(f"{old} could not be put away: {error}", file=sys.stderr, flush=True)

    def _prune(self, now: datetime) -> None:
        """Deletes the oldest archives of the folder, those of other processes too: the bound is the folder's."""
        found = []
        for path in self._path.parent.glob(OLD):
            with suppress(FileNotFoundError):  # another process was quicker
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        kept = 0
        for modified, size, path in sorted(found, reverse=True):
            kept += size
            if kept > self._total or now.timestamp() - modified > KEEP_DAYS * 86_400:
                path.unlink(missing_ok=True)

    def _lose(self, error: Exception) -> None:
        self._lost += 1
        with suppress(OSError):
            self._close()
        self._file = None
        if self._lost == 1 and sys.stderr is not None:
            with suppress(OSError):
                print(f"{self._path} cannot be written, its lines are lost: {error}", file=sys.stderr, flush=True)

    def _told_lost(self, line: str, lost: int) -> str:
        told = f"{lost} lines before this one are lost: the file could not be written"
        if not line.startswith("{"):
            return f"{told}\n"
        now = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {"time": now, "level": "ERROR", "logger": __name__, "message": told, "process": self._path.stem}
        return orjson.dumps({**fields, "pid": os.getpid()}).decode() + "\n"
