"""The folder in which all processes of a machine keep their metrics: prometheus_client's files, one set a process.

A file is named after the host, the process id and the time the process began at, so that an id used again (a
container's first process is always 1) is nobody else's, and each host reads its own alone. The files of processes that
are gone are summed into one, at each scrape and before a process makes its own: the folder stays small though nobody
scrapes it, and no counter goes back.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger
from prometheus_client import values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.metrics.alive import BEGAN, began, lives
from app.metrics.recorded import RECORDED
from app.metrics.room import Roomy, allocate, size_of

ENDED = "ended"
# What is taken ahead for each file. A value with its name and labels takes about 250 bytes, a histogram 14 of them:
# a megabyte has room for 290 pairs of a route and a status, or tasks.
ROOM_BYTES = {"counter": 1 << 18, "histogram": 1 << 20, "gauge_livesum": 1 << 16}
SHARED_MEMORY = "/dev/shm"
LOCK_S = 2.0
BROKEN = (OSError, RuntimeError, ValueError, struct.error)  # what a file raises that is none, or is gone
_HOST = re.compile(r"[^A-Za-z0-9.\-]")
_PROCESS = rf"(?P<pid>\d+)-(?P<began>{BEGAN})"
_FILE = re.compile(rf"(?P<kind>counter|histogram|gauge_[a-z]+)_(?P<host>[^_]+)-(?:{_PROCESS}|ended)\.db")
_ASIDE = re.compile(rf"metrics-(?P<host>.+)-{_PROCESS}-\w+")
_known: tuple[int, str] = (0, "")
_started: Path | None = None


def identity() -> str:
    """This process's name in the folder, another one after a fork; then its files are made, too."""
    global _known
    pid = os.getpid()
    if _known[0] != pid:
        _known = (pid, f"{host()}-{pid}-{began()}")
        if _started is not None:
            _reserve_somewhere(_started, _known[1])
    return _known[1]


def _reserve_somewhere(folder: Path, name: str) -> None:
    """A pool child that finds the disk full records where nobody reads it, and works on."""
    try:
        _tidy(folder)
        _reserve(folder, name)
    except OSError as error:
        logger.error("metrics of process {} are not kept, METRICS_DIR={}: {}", name, folder, error.strerror)
        aside = tempfile.mkdtemp(prefix=f"metrics-{name}-", dir=_shared_memory())
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = aside  # noqa: TID251


def _reserve(folder: Path, name: str) -> None:
    """Make a process's files with room on the disk, or none of them."""
    paths = {folder / f"{kind}_{name}.db": size for kind, size in ROOM_BYTES.items()}
    try:
        for path, size in paths.items():
            allocate(path, size)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _tidy(folder: Path) -> None:
    """Away with what ended processes left, unless another process is at it."""
    for path in _shared_memory().glob("metrics-*"):
        named = _ASIDE.fullmatch(path.name)
        if named and named["host"] == host() and not lives(int(named["pid"]), named["began"]):
            shutil.rmtree(path, ignore_errors=True)
    with _locked(folder, wait_s=0.0) as alone:
        if alone:
            _sum_up(folder)


def _sum_up(folder: Path) -> None:
    """A full disk may leave no room for the sum: then the files stay until there is."""
    try:
        sum_up_ended(folder)
    except OSError as error:
        logger.warning("metrics of METRICS_DIR={} cannot be summed up: {}", folder, error.strerror)


def _shared_memory() -> Path:
    return Path(SHARED_MEMORY if Path(SHARED_MEMORY).is_dir() else tempfile.gettempdir())


def host() -> str:
    """This machine's, or container's, name as files have it."""
    return _HOST.sub("-", platform.node()) or "host"


def start(folder: Path) -> bool:
    """Have this process and those it forks record into `folder`; False, with a word in the log, where that cannot be.

    Comes before anything is recorded, and once: two sets of files of one process would write over each other. Without
    it each process keeps its metrics to itself, as tests and commands do.
    """
    global _started
    if _started is not None:
        return _started == folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        _reserve(folder, identity())
    except OSError as error:
        logger.error("metrics are not kept, METRICS_DIR={} cannot be written: {}", folder, error.strerror)
        return False
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # noqa: TID251  # prometheus_client looks for it there alone
    # Chosen at its import already, which comes before anybody could have set the variable.
    values.MmapedDict = Roomy  # type: ignore[attr-defined]  # it would grow without room
    values.ValueClass = values.MultiProcessValue(process_identifier=identity)  # type: ignore[no-untyped-call]
    _started = folder
    return True


def empty(folder: Path) -> None:
    """Forget what earlier runs recorded; only while no process records there."""
    for path in folder.glob("*.db"):
        path.unlink(missing_ok=True)


class Kept(Collector):
    """What every process of this host that records into the folder has recorded, those that are gone included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Sum it up; a file that cannot be read is left out, and said."""
        with _locked(self._folder) as alone:
            if alone:
                _sum_up(self._folder)
            paths = _mine(self._folder)
            try:
                found = _merged(paths)
            except BROKEN:
                found = _merged(path for path in paths if _sums(path) is not None)
        for metric in found:
            time.sleep(0)  # the web has others to serve
            yield metric


def _mine(folder: Path) -> list[Path]:
    """This host's files: another one counts its own, or they would count twice."""
    return sorted(
        path for path in folder.glob("*.db") if (named := _FILE.fullmatch(path.name)) and named["host"] == host()
    )


def _merged(paths: Iterable[Path]) -> list[Metric]:
    return list(MultiProcessCollector.merge([str(path) for path in paths]))  # type: ignore[no-untyped-call]


def recorded() -> Collector:
    """What was recorded: in the folder, by this process alone where there is none."""
    return RECORDED if _started is None else Kept(_started)


def sum_up_ended(folder: Path) -> None:
    """Sum up the files of this host's processes that are gone, and remove them; a live gauge goes with its process."""
    gone: dict[str, list[Path]] = defaultdict(list)
    for path in _mine(folder):
        named = _FILE.fullmatch(path.name)
        if named and named["pid"] and not lives(int(named["pid"]), named["began"]):
            gone[named["kind"]].append(path)
    for kind, paths in gone.items():
        if not kind.startswith("gauge"):
            _add(folder / f"{kind}_{host()}-{ENDED}.db", paths)
        for path in paths:
            path.unlink(missing_ok=True)


def _add(total: Path, paths: Iterable[Path]) -> None:
    """A crash between the last two steps would count the files once more; none makes a counter go back."""
    sums: dict[str, float] = defaultdict(float)
    for path in (total, *paths):
        for key, value in (_sums(path) or {}).items():
            sums[key] += value
    made = total.with_suffix(".new")
    made.unlink(missing_ok=True)
    allocate(made, max(ROOM_BYTES["counter"], size_of(list(sums))))
    file = MmapedDict(str(made))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    made.replace(total)


def _sums(path: Path) -> dict[str, float] | None:
    """The values of a file by their keys; None where there is no such file, or none that can be read."""
    try:
        rows = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        return {key: value for key, value, _, _ in rows}
    except FileNotFoundError:
        return None
    except BROKEN as error:
        logger.warning("metrics in {} cannot be read and are left out: {}", path.name, error)
        return None


@contextmanager
def _locked(folder: Path, *, wait_s: float = LOCK_S) -> Iterator[bool]:
    """One process at a time sums up; False where another one does for too long, or the folder is gone."""
    try:
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        logger.warning("metrics of METRICS_DIR={} cannot be read: {}", folder, error.strerror)
        yield False
        return
    alone = False
    try:
        alone = _lock(handle, wait_s)
        yield alone
    finally:
        if alone:  # by word: a child forked meanwhile has the handle, too, and would keep the lock for its life
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _lock(handle: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        else:
            return True
