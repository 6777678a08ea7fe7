"""An embedded server: a real one from a Python wheel, on loopback, with its data under DATA_DIR.

PostgreSQL (postgres.py) and Redis (redis.py) run as plain child processes in sessions of their own. A server that an
earlier, killed parent left behind is recognised by its pid file and its working directory (never by its name) and
stopped before a new one starts.
"""

from __future__ import annotations

import errno
import importlib.util
import random
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Self

import psutil

from app.errors import ServerFailed

HOST = "127.0.0.1"
START_S = 30.0
RECOVER_S = 900.0  # after a crash, with much to read again
# Below what systems give to outgoing connections (from 32,768 on Linux), any of which could take a port between its
# choice and its use, or while its server restarts. A member of a Redis Cluster also needs port + 10,000.
PORTS = range(20_000, 32_768)
_given: deque[int] = deque(maxlen=100)  # who asks for several has them listened on later
_draw = random.SystemRandom()  # each process its own; the shared generator may have been seeded


def free_port() -> int:
    """A TCP port of loopback that nobody listens on just now, and that was not given away before."""
    while (port := _draw.choice(PORTS)) in _given or not _is_free(port):
        continue
    _given.append(port)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


class Server(ABC):
    """One embedded server: start() awaits readiness, stop() ends it in good order; `with` does both."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, port: int = 0, *, log: Path | None = None) -> None:
        self.dir = data_dir / self.name
        self.port = port or free_port()
        self.log = log or data_dir / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._password_file = data_dir / f"{self.name}.password"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL clients connect to, with its password."""

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def password(self) -> str:
        """The server's password, made once and readable by its owner only."""
        if not self._password_file.exists():
            self._password_file.parent.mkdir(parents=True, exist_ok=True)
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24), encoding="ascii")
        return self._password_file.read_text(encoding="ascii")

    def start(self) -> None:
        """Starts the server and returns once it answers; raises ServerFailed with its last log lines."""
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.stop_orphan()
        self._prepare()
        with self.log.open("ab") as log:
            self.process = self._spawn(self._command(), stdout=log)
        began = time.monotonic()
        while not self._answers():
            patience_s = RECOVER_S if self._recovers() else START_S
            if self.process.poll() is not None or time.monotonic() - began > patience_s:
                self.stop()
                raise ServerFailed(f"{self.name} did not start on {HOST}:{self.port}; {self.log}:\n{tail(self.log)}")
            time.sleep(0.05)
        self._ready()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ends the server and waits; kills it when it does not end in time."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def stop_orphan(self) -> None:
        """Ends the server that an earlier parent left on this data directory, if there is one."""
        orphan = self._orphan()
        if orphan is None:
            return
        orphan.send_signal(self.stop_signal)
        try:
            orphan.wait(10)
        except psutil.TimeoutExpired:
            orphan.kill()
            orphan.wait(5)

    def _orphan(self) -> psutil.Process | None:
        try:
            pid = int(self._pid_file().read_text(encoding="ascii").split("\n", 1)[0])
            process = psutil.Process(pid)
            return process if Path(process.cwd()) == self.dir.resolve() else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None  # no pid file, or its process is gone or not ours: nothing to clean up

    def _spawn(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.dir,
            **options,  # type: ignore[call-overload]
        )
        return process

    def _ready(self) -> None:  # noqa: B027  not every server has something left
        """What is left to do once the server answers."""

    def _recovers(self) -> bool:
        """Whether the server says itself that it is still reading what a crash left."""
        return False

    @abstractmethod
    def _pid_file(self) -> Path: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log file, for a message."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])


def package_folder(name: str) -> Path:
    """The folder of an installed package, which is not imported: only its server is wanted."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed: run make setup")
    return Path(spec.origin).parent
