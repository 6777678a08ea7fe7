"""`up` with small children in place of the platform's: the lock, restarts, stopping, and what a killed `up` leaves."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import redis

from app.cache import health
from app.config import ROOT, Settings
from app.local.servers import free_port

SCRIPT = Path(__file__).with_name("dummy_platform.py")
ALONE = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": "", "REDIS_URL": ""}  # with servers of its own


class Up:
    """A running `up` of the dummy platform, its output in a file."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, data_dir: Path, *children: str, port: int = 0, nohup: bool = False, **env_more: str) -> None:
        self.data_dir = data_dir
        self.began, self.start_s = time.monotonic(), 0.0
        self.out = data_dir.parent / f"out-{time.monotonic_ns()}.txt"
        env = {**ALONE, **env_more}
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [*["nohup"] * nohup, sys.executable, str(SCRIPT), str(data_dir), str(port), *children],
                stdout=out, stderr=out, env=env, cwd=data_dir.parent, start_new_session=True,
            )  # fmt: skip
        self.started.append(self.process)

    @property
    def text(self) -> str:
        return self.out.read_text()

    def wait_for(self, what: Callable[[], object], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def wait_running(self) -> None:
        self.wait_for(lambda: "Ctrl-C stops everything" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        self.start_s = time.monotonic() - self.began

    def child(self, name: str) -> int:
        children = json.loads((self.data_dir / "children.json").read_text())
        return next((pid for found, pid, _ in children if found == name), 0)

    @property
    def stop_most_s(self) -> float:
        """How long a stop may take here: a machine that was long in starting is long in stopping, too."""
        return max(15, 10 + self.start_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(90)
        return time.monotonic() - began


def at_work(data_dir: Path) -> list[psutil.Process]:
    """Every process that belongs to the DATA_DIR: its children and its servers."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATA_DIR") == str(data_dir) or process.cwd().startswith(f"{data_dir}/"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(process: psutil.Process) -> bool:
    """Whether it ended; nobody may have collected it yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not below pytest's own folder: that one is closed to `nobody`, whom PostgreSQL runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    for up in Up.started:
        if up.poll() is None:
            up.kill()
        up.wait()
    Up.started.clear()
    for process in at_work(folder / "data"):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_up_refuses_a_second_one_and_stops_in_order(data_dir: Path) -> None:
    of_before = data_dir / "metrics" / "counter_host-1-1.db"
    of_before.parent.mkdir(parents=True)
    of_before.touch()
    up = Up(data_dir, "first=steady", "second=family", "third=steady")
    up.wait_running()
    assert not of_before.exists()
    assert (data_dir / "run.json").stat().st_mode & 0o777 == 0o600
    web_url = json.loads((data_dir / "run.json").read_text())["web_url"]

    second = Up(data_dir)
    assert second.process.wait(90) == 1
    assert second.text == f"error: the platform already runs on {data_dir} (pid {up.process.pid}, {web_url})\n"

    assert up.stop(signal.SIGINT) < up.stop_most_s
    assert up.process.returncode == 0
    assert (data_dir / "ends.txt").read_text().split() == ["first", "second", "third"]
    assert at_work(data_dir) == []
    assert not (data_dir / "run.json").exists()
    password = (data_dir / "postgres.password").read_text()
    assert password not in up.text + "".join(log.read_text() for log in (data_dir / "logs").glob("*.log"))


@pytest.mark.slow
def test_a_killed_child_comes_back_and_a_hopeless_one_is_given_up(data_dir: Path) -> None:
    up = Up(data_dir, "first=family", "second=failing")
    up.wait_running()  # that is after `second` was given up
    assert "second ended with code 3 five times in a minute: given up. Its last lines:\nthe last words of it" in up.text
    assert up.text.count("second ended with code 3; restarting in") == 4

    pid = up.child("first")
    family = psutil.Process(pid).children()
    assert len(family) == 1
    os.kill(pid, signal.SIGKILL)
    up.wait_for(lambda: "first ready again" in up.text)
    assert "first was killed by signal 9; restarting in 0.5 s" in up.text
    assert up.child("first") not in {0, pid}
    assert gone(family[0]), "what the dead child had started must not work on"

    server = next(p for p in psutil.Process(up.process.pid).children() if "redis" in p.name())
    server.kill()
    up.wait_for(lambda: up.text.count("redis ready") == 2)
    up.stop()
    assert at_work(data_dir) == []


@pytest.mark.slow
def test_the_next_start_ends_what_a_killed_one_left(data_dir: Path) -> None:
    killed = Up(data_dir, "first=steady", "second=stubborn", "third=family")
    killed.wait_running()
    left = at_work(data_dir)
    killed.process.kill()
    killed.process.wait()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)", "first"])
    try:
        up = Up(data_dir, "first=steady")
        up.wait_running()
        assert "ended what a killed run left behind: first, second, third" in up.text
        assert all(gone(process) for process in left)
        assert bystander.poll() is None
        assert up.stop() < up.stop_most_s
        assert at_work(data_dir) == []
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_everything(data_dir: Path) -> None:
    """As after `make demo` in a window or over ssh: a leader that gives the terminal to `up`, and dies with it."""
    leader = (  # whoever runs the tests may have been told to ignore the hangup
        "import fcntl, signal, subprocess, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); subprocess.run(sys.argv[1:])"
    )
    terminal, end = os.openpty()
    up_itself = (sys.executable, str(SCRIPT), str(data_dir), "0", "first=steady", "second=family")
    make = subprocess.Popen(
        [sys.executable, "-c", leader, *up_itself],
        stdin=end, stdout=end, stderr=end, env=ALONE, cwd=data_dir.parent, start_new_session=True,
    )  # fmt: skip
    Up.started.append(make)
    os.close(end)
    said, there = b"", []
    try:
        while b"Ctrl-C stops everything" not in said:
            assert select.select([terminal], [], [], 60.0)[0], said
            said += os.read(terminal, 4096)
        (up,) = psutil.Process(make.pid).children()
        there = [up, *at_work(data_dir)]
        assert len(there) > 4
        os.close(terminal)
        assert make.wait(60) == -signal.SIGHUP
        up.wait(60)
        assert all(gone(process) for process in there)
    finally:
        for process in there:
            if not gone(process):
                process.kill()
    assert (data_dir / "ends.txt").read_text().split() == ["first", "second"]
    assert not (data_dir / "run.json").exists()
    log = (data_dir / "logs" / "up.log").read_text()
    assert "the console cannot be written to" in log and "Stopped in" in log and "Traceback" not in log


@pytest.mark.slow
def test_a_stubborn_child_does_not_hold_the_stop(data_dir: Path) -> None:
    up = Up(data_dir, "first=stubborn", "second=steady")
    up.wait_running()
    assert up.stop() < up.stop_most_s
    assert "first did not stop in time: killed" in up.text
    assert at_work(data_dir) == []


def test_with_urls_given_nothing_is_embedded(data_dir: Path, settings: Settings, redis_client: redis.Redis) -> None:
    health.beat(redis_client, "streamer-binance-1", {})  # of a run with more shards that was killed
    health.beat(redis_client, "poller-yahoo", {})
    database_url = settings.database_url.replace("+psycopg2", "")
    up = Up(data_dir, "first=steady", nohup=True, DATABASE_URL=database_url, REDIS_URL=settings.redis_url)
    up.wait_running()
    up.process.send_signal(signal.SIGHUP)  # a terminal that goes is nothing to it
    up.wait_for(lambda: health.names(redis_client) == ["poller-yahoo", "up"])
    assert "postgres ready" not in up.text and "redis ready" not in up.text
    assert not (data_dir / "postgres").exists() and not (data_dir / "redis").exists()
    env = Path(f"/proc/{up.child('first')}/environ").read_text().split("\0")
    assert f"DATABASE_URL={database_url}" in env and f"REDIS_URL={settings.redis_url}" in env
    assert "Stopping" not in up.text and up.stop() < up.stop_most_s
    assert settings.database_url not in up.text

    lost = Up(data_dir, DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/x", REDIS_URL=settings.redis_url)
    assert lost.process.wait(90) == 1
    assert "the database cannot be reached" in lost.text


def test_a_busy_port_is_named_with_its_setting(data_dir: Path) -> None:
    import socket

    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        up = Up(data_dir, port=port)
        assert up.process.wait(90) == 1
    expected = f"error: port {port} on 127.0.0.1 is in use: set WEB_PORT to another port (0 takes a free one)\n"
    assert up.text == expected
    assert at_work(data_dir) == []


def test_a_stop_during_the_start_is_heard(data_dir: Path) -> None:
    up = Up(data_dir, "first=steady")
    up.wait_for(lambda: (data_dir / "up.lock").exists())
    time.sleep(0.5)  # in the middle of initdb, or of the server's start
    assert up.stop() < 30
    assert up.process.returncode == 0
    assert at_work(data_dir) == []
