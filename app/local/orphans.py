"""Children that a killed `up` left behind: known by recorded pid and beginning, never by a process's name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from app.local.runfile import write_private
from app.metrics.alive import lives

MARK = "UP_DATA_DIR"  # environment variable every child carries: the DATA_DIR it works for
GRACE_S = 5.0


def record_children(data_dir: Path, children: Iterable[tuple[str, int, str]]) -> None:
    """Writes down (name, pid, beginning) of each running child."""
    write_private(data_dir / "children.json", [list(child) for child in children])


def end_orphans(data_dir: Path) -> list[str]:
    """Ends what an earlier `up` of this DATA_DIR left, politely first; returns the names of its children."""
    recorded = _recorded(data_dir)
    orphans = _find(data_dir, recorded)
    for process in orphans.values():
        _signal(process, force=False)
    _, stubborn = psutil.wait_procs(list(orphans.values()), timeout=GRACE_S)
    # A worker's pool may outlive its parent by a moment: look again before the last word.
    for process in {*stubborn, *_find(data_dir, recorded).values()}:
        _signal(process, force=True)
    psutil.wait_procs(list(_find(data_dir, recorded).values()), timeout=2)
    (data_dir / "children.json").unlink(missing_ok=True)
    pids = {process.pid for process in orphans.values()}
    return [name for name, pid, _ in recorded if pid in pids]


def _recorded(data_dir: Path) -> list[tuple[str, int, str]]:
    try:
        rows = json.loads((data_dir / "children.json").read_text(encoding="utf-8"))
        # An older `up` wrote the clock's seconds, as a number.
        return [(str(name), int(pid), x if isinstance(x, str) else str(int(x))) for name, pid, x in rows]
    except (OSError, ValueError, TypeError):
        return []  # a first start, or a clean end


def _find(data_dir: Path, recorded: list[tuple[str, int, str]]) -> dict[int, psutil.Process]:
    """The living orphans: recorded children, and whatever carries this DATA_DIR's mark (their own children)."""
    known = {pid for _, pid, began in recorded if lives(pid, began)}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            ours = process.pid in known or process.environ().get(MARK) == str(data_dir)
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
        except psutil.Error:
            continue  # gone meanwhile, or another user's: not ours
    return found


def _signal(process: psutil.Process, *, force: bool) -> None:
    try:
        if force:
            process.kill()
        elif os.getsid(process.pid) == process.pid:  # pool children follow their session's leader
            process.terminate()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return  # it ended by itself
