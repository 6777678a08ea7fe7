"""Whether what is written down still runs: the platform, who asked it for a restart, what a killed one left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.config import ROOT, load_settings
from app.errors import BadInput, NotRunning
from app.local.orphans import end_orphans, record_children
from app.local.restarts import ask
from app.local.runfile import Run, attach, attach_celery, read_run, write_run
from app.metrics.alive import began

Shift = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Sets this machine's clock, as psutil sees it: the time of the boot moves with it."""
    real = psutil.Process.create_time

    def shift(seconds: float) -> None:
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + seconds)

    return shift


def a_run(**values: Any) -> Run:
    places = dict.fromkeys(("web_url", "flower_url", "sandbox_url", "celery_broker_url", "log_dir"), "")
    known = {"database_url": "postgresql://here/market", "redis_url": "redis://here/0", "market": "sandbox"}
    created = psutil.Process().create_time()
    return Run(**{"pid": os.getpid(), "created": created, "began": began(), **places, **known, **values})


@pytest.mark.parametrize("seconds", [1.0, -3600.0])
def test_a_clock_that_is_set_ends_no_platform(tmp_path: Path, set_clock: Shift, seconds: float) -> None:
    settings = load_settings(data_dir=tmp_path, _env_file=None)
    write_run(tmp_path, a_run())
    set_clock(seconds)
    assert attach(settings).redis_url == "redis://here/0"
    write_run(tmp_path, a_run(began=f"1{began()}"))
    with pytest.raises(NotRunning):
        attach(settings)


def test_the_file_of_another_version_is_understood(tmp_path: Path, set_clock: Shift) -> None:
    path, run = tmp_path / "run.json", a_run()
    write_run(tmp_path, run)
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "more": "of a newer one"}))
    assert read_run(tmp_path) == run
    del said["began"]
    path.write_text(json.dumps(said))
    older = read_run(tmp_path)
    assert older is not None and older.alive
    set_clock(60)
    assert not older.alive, "only the clock tells it"
    path.write_text("[]")
    assert read_run(tmp_path) is None


def test_who_asked_for_a_restart_is_there_after_the_clock_was_set(tmp_path: Path, set_clock: Shift) -> None:
    ask(tmp_path, ["web"], {})
    set_clock(3600)
    with pytest.raises(BadInput, match="another restart waits"):
        ask(tmp_path, ["beat"], {})


@pytest.fixture
def left() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "900"], env={}, start_new_session=True)  # without the mark
    yield child.pid
    child.kill()
    child.wait(10)


def test_what_a_killed_run_left_is_known_after_the_clock_was_set(tmp_path: Path, set_clock: Shift, left: int) -> None:
    record_children(tmp_path, [("first", left, began(left)), ("second", os.getpid(), "0")])
    set_clock(3600)
    assert end_orphans(tmp_path) == ["first"]
    assert not psutil.pid_exists(left)


def test_what_an_older_run_left_is_known_by_the_clock(tmp_path: Path, left: int) -> None:
    path, created = tmp_path / "children.json", psutil.Process(left).create_time()
    path.write_text(json.dumps([["first", left, created - 60]]))
    assert end_orphans(tmp_path) == []
    path.write_text(json.dumps([["first", left, created]]))
    assert end_orphans(tmp_path) == ["first"]
    assert not psutil.pid_exists(left)


def test_celery_by_hand_finds_the_platform_that_runs(tmp_path: Path) -> None:
    write_run(tmp_path, a_run(celery_broker_url="redis://:secret@here/0"))
    asked = "from celery_config import celery; from tasks.base import platform; found = platform().settings; "
    asked += "print(celery.conf.broker_url, found.database_url, found.redis_url)"
    without = {"DATABASE_URL": "", "REDIS_URL": "", "CELERY_BROKER_URL": ""}
    out = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env={**os.environ, **without, "DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert out.stdout == "redis://:secret@here/0 postgresql://here/market redis://here/0\n", out.stderr


def test_the_platform_here_has_nothing_to_say_of_another_s_servers(tmp_path: Path) -> None:
    """A demo on the default DATA_DIR, say, and a worker that is started for a platform elsewhere."""
    write_run(tmp_path, a_run(celery_broker_url="redis://here/0"))
    there: dict[str, Any] = {"database_url": "postgresql://there/market", "redis_url": "redis://there/0"}
    there = {**there, "market": "live", "data_dir": tmp_path, "_env_file": None}
    alone = load_settings(**there)
    assert attach(alone) == attach_celery(alone) == alone
    assert attach(load_settings(**{**there, "database_url": ""})).broker_url == "redis://there/0"
    flower = load_settings(celery_broker_url="amqp://there//", data_dir=tmp_path, _env_file=None)
    assert attach_celery(flower) == flower
    here = load_settings(data_dir=tmp_path, _env_file=None)
    assert attach(here).database_url == "postgresql://here/market" and attach(here).broker_url == "redis://here/0"


def test_celery_by_hand_needs_a_broker_or_a_platform(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="nothing runs on"):
        attach_celery(load_settings(data_dir=tmp_path, _env_file=None))
    settings = load_settings(data_dir=tmp_path, redis_url="redis://there/0", _env_file=None)
    assert attach_celery(settings) == settings
