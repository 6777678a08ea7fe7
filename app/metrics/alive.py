"""Which process it is that is written down: its id, and when it began by a clock that nobody sets.

The kernel counts from the boot, and gives each boot an id. psutil adds the time of the boot to that, which moves with
the machine's clock: by it every process would be another one after the clock was set.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

PROC = Path("/proc")
BEGAN = r"\d+(?:x[0-9a-f]+)?"
CLOCK_S = 5  # two readings of the same process's beginning may differ by so much where only the clock tells it
_STATE, _STARTED = 0, 19  # of the fields after the name


def began(pid: int | None = None) -> str:
    """When this process, or another, began: ticks since the boot and the boot, else the clock's seconds."""
    try:
        return f"{_stat(pid or os.getpid())[_STARTED]}x{_boot()}"
    except OSError:
        return str(int(psutil.Process(pid).create_time()))


def lives(pid: int, began: str) -> bool:
    """Whether the process that had this id at that time lives; one that may not be asked about does."""
    ticks, _, boot = began.partition("x")
    try:
        return _lives_by_kernel(pid, ticks, boot) if boot else _lives_by_clock(pid, int(ticks))
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return False
    except (PermissionError, psutil.AccessDenied):
        return True


def _lives_by_kernel(pid: int, ticks: str, boot: str) -> bool:
    if boot != _boot():
        return False
    fields = _stat(pid)
    return fields[_STARTED] == ticks and fields[_STATE] not in "ZX"


def _lives_by_clock(pid: int, began_s: int) -> bool:
    process = psutil.Process(pid)
    return abs(process.create_time() - began_s) <= CLOCK_S and process.status() != psutil.STATUS_ZOMBIE


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").replace("-", "")[:12]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; the name before them may have blanks and parentheses."""
    return (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
