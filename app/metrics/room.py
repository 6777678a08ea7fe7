"""Room on the disk for the files that metrics are kept in, taken before it is written to.

They are mapped into memory: a write to a page for which a full disk has no room ends the process by SIGBUS.
"""

from __future__ import annotations

import os
from pathlib import Path

from loguru import logger
from prometheus_client.mmap_dict import MmapedDict

LEAST_BYTES = 1 << 16
_VALUE_BYTES = 32  # of a value, besides its key


def allocate(path: Path, size: int) -> None:
    """A file with room on the disk; where there is none, OSError, and no file that was not there before."""
    made = not path.exists()
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        if made:
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def size_of(keys: list[str]) -> int:
    """How much a file of values with these keys takes at most."""
    return 8 + sum(len(key.encode()) + _VALUE_BYTES for key in keys)


class Roomy(MmapedDict):
    """A file of values that grows only where the disk has room.

    A value for which there is none is left out, and tried again each time it changes: what it has counted meanwhile is
    in its process, and comes with it.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path, self._positions, self._opened, self._said = Path(filename), dict[str, int](), False, False
        try:
            self._open()
        except OSError as error:
            self._say(error)

    def read_value(self, key: str) -> tuple[float, float]:
        """A value and its time; zero where there is no room for it."""
        return self._value(key) if self._fits(key) else (0.0, 0.0)

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Keep a value, if there is room."""
        if self._fits(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _open(self) -> None:
        allocate(self._path, LEAST_BYTES)
        super().__init__(str(self._path))  # type: ignore[no-untyped-call]
        self._opened = True

    def close(self) -> None:
        """Let go of the file, if there is one."""
        if self._opened:
            super().close()  # type: ignore[no-untyped-call]

    def _value(self, key: str) -> tuple[float, float]:
        value, at = super().read_value(key)  # type: ignore[no-untyped-call]
        return float(value), float(at)

    def _fits(self, key: str) -> bool:
        if key in self._positions:
            return True
        try:
            if not self._opened:
                self._open()
            self._grow(self._used + size_of([key]))
        except OSError as error:
            self._say(error)
            return False
        return True

    def _grow(self, size: int) -> None:
        """Take what the library would only promise: it makes a file longer, by doubling it, and takes no room."""
        capacity = self._capacity
        while capacity < size:
            capacity *= 2
        if capacity > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, capacity)

    def _say(self, error: OSError) -> None:
        if not self._said:
            logger.error("new metrics are not kept in {} until there is room: {}", self._path, error.strerror)
        self._said = True
