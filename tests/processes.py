"""The platform's real processes on a test's own database and Redis: workers, beat, streamer, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from app.config import ROOT, Settings

NOWHERE = "127.0.0.1:9"  # refuses at once, where the name of an exchange may take seconds to be not found
WORKERS = {"trades": "trades.0", "bars": "bars,indicators", "history": "polling,backfill,upkeep"}


class Processes:
    """Starts and ends the platform's processes; each one's output is kept in a file of its name."""

    def __init__(self, settings: Settings, **environment: object) -> None:
        self.folder = settings.data_dir
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        names = (
            "database_url",
            "redis_url",
            "celery_broker_url",
            "data_dir",
            "log_dir",
            "visibility_timeout_s",
            "binance_api_url",
            "binance_stream_url",
            "alpaca_api_url",
            "alpaca_trading_url",
            "alpaca_stream_url",
            "yahoo_api_url",
        )
        values = {name.upper(): str(getattr(settings, name)) for name in names}
        for name in names:
            default = str(Settings.model_fields[name].default)
            if "://" in default and values[name.upper()] == default:  # no test asks the exchanges themselves
                values[name.upper()] = f"{default.partition('://')[0].removesuffix('s')}://{NOWHERE}"
        self.environment = {
            **os.environ,
            **values,
            "MARKET": settings.market,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.environment |= {name: str(value) for name, value in environment.items()}

    def worker(self, name: str, *, node: str = "", concurrency: int = 1) -> None:
        """A Celery worker of the queues that `up` gives this name."""
        node = node or name
        self.start(
            node, "-m", "celery", "-A", "celery_config", "worker", "-Q", WORKERS[name], "-c", str(concurrency), "-n",
            f"{node}@%h", "--without-gossip", "--without-mingle", "-l", "WARNING",
        )  # fmt: skip

    def beat(self, name: str = "beat") -> None:
        """The clock of periodic tasks; a second one has another name."""
        self.start(
            name,
            "-m",
            "celery",
            "-A",
            "celery_config",
            "beat",
            "-s",
            str(self.folder / name),
            "--pidfile=",
            "-l",
            "WARNING",
        )

    def start(self, name: str, *arguments: str) -> None:
        """Any Python process of the platform."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL to the process and its children, as a crash of the machine's memory would."""
        victim = self.running.pop(name)
        children = psutil.Process(victim.pid).children(recursive=True)
        victim.kill()
        victim.wait(60)
        end_all(children)

    def kill_all(self) -> list[str]:
        """SIGKILL to everything, as a power cut would; returns what ran."""
        names = list(self.running)
        for name in names:
            self.kill(name)
        return names

    def cli(self, *arguments: object, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """`python -m app …`, awaited."""
        return subprocess.run(
            [sys.executable, "-m", "app", *map(str, arguments)], cwd=ROOT, env=self.environment, capture_output=True,
            text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def cli_beside(self, *arguments: object) -> subprocess.Popen[str]:
        """`python -m app …`, not awaited."""
        return subprocess.Popen(
            [sys.executable, "-m", "app", *map(str, arguments)], cwd=ROOT, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def said(self) -> str:
        """The last lines of every process, for a failure's message."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(self.folder.glob("*.out"))
        )

    def stop(self) -> None:
        """Ends all of them."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                end_all(psutil.Process(process.pid).children(recursive=True))
                process.kill()
                process.wait(60)
        self.running.clear()


@contextmanager
def processes(settings: Settings, **environment: object) -> Iterator[Processes]:
    """Processes on these settings, all ended on the way out."""
    found = Processes(settings, **environment)
    try:
        yield found
    finally:
        found.stop()


def end_all(children: list[psutil.Process]) -> None:
    """SIGKILL to what a process has started; some may end by themselves once it is gone."""
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def until(check: Any, *, seconds: float = 90, every: float = 0.2, what: str = "") -> Any:
    """The first true answer of `check`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = check()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what or check}")


def path_of(data: Path, names: tuple[str, ...]) -> list[Path]:
    """Files of the recorded data."""
    return [data / name for name in names]
