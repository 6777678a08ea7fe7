"""One child process: how it is started, when it is ready, what happens when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from app.local.servers import tail
from app.metrics.alive import began

DEATHS = 5  # in WINDOW_S: given up
WINDOW_S = 60.0
BACKOFF_S = (0.5, 8.0)  # first delay and cap
NEVER = "0"  # a beginning that no process has
OUTPUT_LIMIT = 10 * 2**20  # bytes of raw output kept; the proper log rotates by itself


class State(StrEnum):
    """Where a child is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a child is. Children of a lower stage are stopped first."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool] | float  # a probe, or seconds to stay alive
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # children to be ready before this one starts
    stage: int = 1
    stop_s: float = 3.0  # after SIGTERM
    cold_signal: signal.Signals | None = None  # then this one, before SIGKILL
    cold_s: float = 2.0
    connections: int = 0  # to the database, that it and its own children may hold at most
    beside: bool = False  # a successor may run beside it; then it makes its READY_FILE itself
    overlap_s: float = 0.0  # both run for so long after the successor is ready
    again: Mapping[str, str] = field(default_factory=dict)  # arguments that every other successor has in place of these


class Child:
    """A supervised process; every method returns at once."""

    def __init__(self, spec: ChildSpec, *, run_dir: Path, log_dir: Path, turn: int = 0) -> None:
        """`turn` counts the successors of a restart: two in a row have different files and node names."""
        self.spec, self.turn = spec, turn
        self.argv = tuple(spec.again.get(part, part) if turn % 2 else part for part in spec.argv)
        label = f"{spec.name}.b" if turn % 2 else spec.name
        self.state = State.WAITING
        self.restarts = 0
        self.began = NEVER
        self.ready_after_s: float | None = None
        self.started = 0.0  # monotonic
        self.start_at = 0.0  # monotonic: not before
        self.code: int | None = None
        self.output = run_dir / f"{label}.out"
        self.ready_file = run_dir / f"{label}.ready"
        self.log_file = log_dir / f"{spec.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths: deque[float] = deque(maxlen=DEATHS)

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return self._process.pid if self._process else None

    def start(self, environment: Mapping[str, str], *, cwd: Path) -> None:
        """Starts the process in a session of its own, so that the terminal's Ctrl-C does not reach it."""
        self.ready_file.unlink(missing_ok=True)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        env = {**environment, **self.spec.env, "READY_FILE": str(self.ready_file)}
        self.started = time.monotonic()
        self.code = None
        try:
            # Appending, so that the file can be cut while the child writes.
            self.output.unlink(missing_ok=True)
            with self.output.open("ab") as output:
                self._process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=env,
                    cwd=cwd,
                )
        except OSError as error:
            with suppress(OSError):  # the disk may be full: then that was it
                self.output.write_text(f"{self.argv[0]}: {error.strerror}\n", encoding="utf-8")
            self._died(127)
            return
        self.state = State.STARTING
        try:
            self.began = began(self._process.pid)
        except psutil.Error:
            self.began = NEVER  # it died already: the next look says so

    def look(self) -> None:
        """Notices death and readiness."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self.kill_group()  # its own children would work on without it
            self._process = None
            self._died(code)
        elif self.state is State.STARTING and self._is_ready():
            self.state = State.READY
            self.ready_after_s = time.monotonic() - self.started

    def _is_ready(self) -> bool:
        ready = self.spec.ready
        if self.turn and self.spec.beside:  # its predecessor may answer to the probe, or have made the other file
            return self.ready_file.exists()
        if isinstance(ready, float):
            return self.ready_file.exists() or time.monotonic() - self.started >= ready
        return ready()

    def _died(self, code: int) -> None:
        now = time.monotonic()
        self.code = code
        self._deaths.append(now)
        recent = sum(1 for death in self._deaths if now - death < WINDOW_S)
        if recent >= DEATHS:
            self.state = State.GIVEN_UP
            return
        first, cap = BACKOFF_S
        self.state = State.RESTARTING
        self.restarts += 1
        self.start_at = now + min(cap, first * 2 ** (recent - 1))

    @property
    def running(self) -> bool:
        """Whether the process itself still lives."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, not to its children."""
        if self.running and self._process:
            self._process.send_signal(number)

    def kill_group(self) -> None:
        """Kills what is left of the process's session."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nothing left (macOS says the second for zombies)

    def stopped(self) -> None:
        """Collects the ended process."""
        if self._process is not None:
            self.kill_group()
            self._process.wait(2)
            self._process = None
        self.state = State.STOPPED

    def trim(self) -> None:
        """Cuts the raw output when it has grown too long."""
        if self.output.exists() and self.output.stat().st_size > OUTPUT_LIMIT:
            os.truncate(self.output, 0)

    @property
    def traces(self) -> Path:
        """Where to look for what happened: the raw output when there is any, since a crash ends there, else the log."""
        raw = self.output.exists() and self.output.stat().st_size > 0
        return self.output if raw or not self.log_file.exists() else self.log_file

    def last_words(self) -> str:
        """The last lines it wrote."""
        return tail(self.traces)
