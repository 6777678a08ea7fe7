"""What a running platform leaves in its DATA_DIR: the lock, `run.json` with its addresses, and its children's pids."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from app.config import ROOT, Settings
from app.errors import AlreadyRunning, NotRunning
from app.metrics.alive import lives

START_HINT = "start it with `make demo` or `python -m app up`"


@dataclass(frozen=True, slots=True)
class Run:
    """Where a running platform is; its database URLs carry passwords, so the file is its owner's alone."""

    pid: int
    created: float  # the process's creation time by the clock, which may be set: only where the last field is missing
    web_url: str
    flower_url: str
    sandbox_url: str
    database_url: str
    redis_url: str
    celery_broker_url: str
    log_dir: str
    market: str
    began: str = ""  # when the process did, so that a reused pid is not taken for it; an older `up` does not say

    @property
    def alive(self) -> bool:
        """Whether the `up` that wrote this still runs."""
        return lives(self.pid, self.began or str(int(self.created)))


def write_run(data_dir: Path, run: Run) -> None:
    """Replaces `run.json`, mode 0600."""
    write_private(data_dir / "run.json", asdict(run))


def read_run(data_dir: Path) -> Run | None:
    """What `run.json` says, whether or not that platform still runs; None without a (readable) one."""
    known = {field.name for field in fields(Run)}
    try:
        found = json.loads((data_dir / "run.json").read_text(encoding="utf-8"))
        return Run(**{name: value for name, value in found.items() if name in known})  # a newer one may say more
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # never written, half a disk, or another version's: nothing to go by


def forget_run(data_dir: Path) -> None:
    """Removes `run.json`."""
    (data_dir / "run.json").unlink(missing_ok=True)


def attach(settings: Settings) -> Settings:
    """The settings with the running platform's URLs where none are set; raises NotRunning when nothing runs.

    On servers of the user's own the platform may run elsewhere: then only the settings say where things are.
    """
    run = read_run(settings.data_dir)
    if run is None or not run.alive:
        if settings.database_url and settings.redis_url:
            return settings
        raise NotRunning(f"nothing runs on {settings.data_dir}: {START_HINT}")
    own = settings.database_url, settings.redis_url
    if all(own) and own != (run.database_url, run.redis_url):
        return settings  # another platform's, of which the one that runs here has nothing to say
    found: dict[str, Any] = {"market": run.market}
    for name in ("database_url", "redis_url"):
        found[name] = getattr(settings, name) or getattr(run, name)
    if not settings.celery_broker_url and found["redis_url"] == run.redis_url:
        found["celery_broker_url"] = run.celery_broker_url
    ours = not settings.database_url or settings.database_url == run.database_url
    if run.sandbox_url and ours:
        found |= sandbox_urls(run.sandbox_url)
    return settings.model_copy(update=found)


def attach_celery(settings: Settings) -> Settings:
    """The same for Celery's processes: a broker that is set will do, since Flower and beat ask no database.

    Where it is another's than that of the platform here, its messages must not come into this one's database.
    """
    run = read_run(settings.data_dir)
    if run is not None and settings.celery_broker_url not in ("", run.celery_broker_url):
        return settings
    try:
        return attach(settings)
    except NotRunning:
        if settings.broker_url:
            return settings
        raise


def sandbox_urls(url: str) -> dict[str, str]:
    """The exchanges' base URLs, by setting, when the simulated market at `url` takes their place."""
    stream = url.replace("http://", "ws://", 1)
    return {
        "binance_api_url": url,
        "binance_stream_url": stream,
        "alpaca_api_url": url,
        "alpaca_trading_url": url,
        "alpaca_stream_url": stream,
        "yahoo_api_url": url,
    }


def write_private(path: Path, content: Any) -> None:
    """Writes JSON atomically into a file only its owner reads."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    fresh.replace(path)


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Holds DATA_DIR for this process; raises AlreadyRunning, naming who has it. The kernel frees it at our death."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            run = read_run(data_dir)
            where = f", {run.web_url}" if run and run.alive else ""
            pid = lock.read().strip() or "unknown"
            raise AlreadyRunning(f"the platform already runs on {data_dir} (pid {pid}{where})") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        with _checkout_in_use():
            yield


@contextmanager
def _checkout_in_use() -> Iterator[None]:
    """Shares a lock on the checkout with every `up` that runs from it: `make clean` looks (app/local/running.py).

    On the folder itself, which this user need not be able to write to. A file system without locks has none.
    """
    checkout = os.open(ROOT, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(checkout, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(checkout)
