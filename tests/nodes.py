"""pytest-celery's nodes backed by plain processes: brokers as the tests start them, workers as `up` does.

A node asks its container for nothing but what is here, so no Docker engine is needed; the constructor of the library's
class, which wants one, is left out on purpose.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from pytest_celery import CeleryTestContainer

from app.config import ROOT, Settings
from app.local.child import ChildSpec
from app.local.processes import child_environment, process_table
from app.local.runfile import Run
from app.local.servers import Server
from tests.processes import end_all, until

START_S = 90.0


class ProcessContainer(CeleryTestContainer):
    """What a container is to a node: something with a name that starts, dies and has logs."""

    def __init__(self, name: str) -> None:
        self._label = name

    @property
    def id(self) -> str:
        return self._label

    @property
    def name(self) -> str:
        return self._label

    def reload(self) -> None:
        """Nothing is kept that could be old."""

    def ready(self) -> bool:
        return self.status == "running"


class ServerContainer(ProcessContainer):
    """A broker or store."""

    def __init__(self, server: Any) -> None:
        super().__init__(server.name)
        self.server: Server = server

    @property
    def status(self) -> str:
        return "running" if self.server.pid else "exited"

    @property
    def celeryconfig(self) -> dict[str, str]:
        return {"url": self.server.url, "host_url": self.server.url}

    def kill(self, signal: str | int = "SIGKILL") -> None:
        process = self.server.process
        assert process is not None
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):  # the others may end with the first of them
                each.send_signal(_number(signal))
        process.wait(60)

    def restart(self, timeout: int = 10) -> None:
        self.server.stop(timeout_s=30)
        self.server.start()

    def logs(self, **_: object) -> str:
        return self.server.log.read_text(errors="replace")

    def teardown(self) -> None:
        """The server's own fixture ends it."""


class WorkerContainer(ProcessContainer):
    """A worker by the command line, the environment and the sign of readiness that `up` gives it."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(name)
        self._folder = settings.data_dir / name
        self._folder.mkdir(parents=True, exist_ok=True)
        run = _run(settings)
        self._spec = _spec(settings, run, name, self._folder)
        extra = {"VISIBILITY_TIMEOUT_S": str(settings.visibility_timeout_s), "LOG_CONSOLE": "1"}
        self._environment = {**child_environment(settings, run), **self._spec.env, **extra}
        self._ready_file = self._folder / f"{name}.ready"
        self._log = self._folder / "out"
        self._process: subprocess.Popen[bytes] | None = None
        self.restart()

    @property
    def status(self) -> str:
        return "running" if self._process is not None and self._process.poll() is None else "exited"

    @property
    def celeryconfig(self) -> dict[str, str]:
        return {}

    def worker_name(self) -> str:
        return self._label

    def ready(self) -> bool:
        return self.status == "running" and self._ready_file.exists()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Sends the signal; SIGKILL, which leaves nobody to end the pool's children, goes to them too."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(_number(signal))
        if _number(signal) == _number("SIGKILL"):
            self._process.wait(60)
            end_all(children)

    def wait(self, *, seconds: float = 120) -> int:
        """The exit code of a worker that was told to end."""
        assert self._process is not None
        return self._process.wait(seconds)

    def restart(self, timeout: int = 10) -> None:
        """Starts it, once it has ended; returns when it is ready."""
        if self._process is not None:
            self._process.wait(120)
        self._ready_file.unlink(missing_ok=True)
        environment = {**self._environment, "READY_FILE": str(self._ready_file)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._spec.argv, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self.ready, seconds=START_S, every=0.05, what=f"{self._label} is ready")

    def logs(self, **_: object) -> str:
        return self._log.read_text(errors="replace")

    def teardown(self) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
            try:
                self.wait(seconds=20)
            except subprocess.TimeoutExpired:
                self.kill()


def _number(name: str | int) -> int:
    return int(signal.Signals[name]) if isinstance(name, str) else name


def _run(settings: Settings) -> Run:
    return Run(
        pid=os.getpid(), created=time.time(), web_url="http://127.0.0.1:1", flower_url="", sandbox_url="",
        database_url=settings.database_url, redis_url=settings.redis_url, celery_broker_url=settings.broker_url,
        log_dir=str(settings.log_dir), market=settings.market,
    )  # fmt: skip


def _spec(settings: Settings, run: Run, name: str, folder: Path) -> ChildSpec:
    return next(spec for spec in process_table(settings, run, run_dir=folder) if spec.name == name)
