"""The folder of metrics: many processes, some of them gone, and no counter that goes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from loguru import logger
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app.config import ROOT
from app.metrics import empty, exposition, files
from app.metrics.files import Kept, sum_up_ended

FAMILY = """
import json, os, signal, sys, time
from pathlib import Path
from app.metrics import recorded
from app.metrics.files import Kept, start
folder = Path(sys.argv[1])
assert start(folder) and start(folder) and not start(folder / "other")
recorded.batch_committed("binance", rows=3, accepted=2, queued_s=0.2, lag_s=0.4)  # before the forks
recorded.socket_opened("/ws")

def child(n, *, killed):
    pid = os.fork()
    if pid == 0:
        for _ in range(n):
            recorded.batch_committed("binance", rows=10, accepted=10, queued_s=3.0, lag_s=None)
        recorded.socket_opened("/ws")
        os.kill(os.getpid(), signal.SIGKILL) if killed else os._exit(0)
    return pid

def told():
    found = {}
    for metric in Kept(folder).collect():
        for sample in metric.samples:
            found[sample.name + json.dumps(sample.labels, sort_keys=True)] = sample.value
    return found, sorted(path.name for path in folder.glob("*.db"))

looks = []
for n, killed in ((5, True), (7, False)):
    os.waitpid(child(n, killed=killed), 0)
    looks.append(told())
looks.append(told())
print(json.dumps(looks))
"""


def test_what_ended_processes_recorded_stays_and_their_files_go(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", FAMILY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    looks = json.loads(out.stdout)
    trades = 'market_trades_total{"exchange": "binance"}'
    assert [values[trades] for values, _ in looks] == [52, 122, 122]
    values, names = looks[-1]
    assert values['market_enqueue_to_commit_seconds_count{"exchange": "binance"}'] == 13
    assert values['market_enqueue_to_commit_seconds_bucket{"exchange": "binance", "le": "0.25"}'] == 1
    assert values['market_enqueue_to_commit_seconds_bucket{"exchange": "binance", "le": "5.0"}'] == 13
    assert values['market_enqueue_to_commit_seconds_sum{"exchange": "binance"}'] == pytest.approx(36.2)
    assert values['market_trade_to_commit_seconds_count{"exchange": "binance"}'] == 1
    assert values['market_websocket_clients{"route": "/ws"}'] == 1  # of the process that lives
    assert len(names) == 5 and {"counter_ended.db", "histogram_ended.db"} < set(names)


def write(folder: Path, name: str, value: float, *, kind: str = "counter") -> Path:
    """A process's file with one value of a counter."""
    path = folder / f"{kind}_{name}.db"
    file = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    key = mmap_key("market_trades", "market_trades_total", ["exchange"], ["binance"], "told")
    file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    return path


def total(folder: Path) -> float:
    return sum(sample.value for metric in Kept(folder).collect() for sample in metric.samples)


def test_an_id_used_again_is_another_process_and_another_hosts_are_left_alone(tmp_path: Path) -> None:
    host, began = files.host(), int(psutil.Process().create_time())
    mine = write(tmp_path, f"{host}-{os.getpid()}-{began}", 1)
    before = write(tmp_path, f"{host}-{os.getpid()}-{began - 1000}", 10)
    elsewhere = write(tmp_path, f"other.example-1-{began}", 100)
    gauge = write(tmp_path, f"{host}-{os.getpid()}-{began - 1000}", 1000, kind="gauge_livesum")
    assert total(tmp_path) == 111
    assert mine.exists() and elsewhere.exists() and not before.exists() and not gauge.exists()
    write(tmp_path, f"{host}-{os.getpid()}-{began - 500}", 5)
    assert total(tmp_path) == 116
    sum_up_ended(tmp_path)
    assert total(tmp_path) == 116


def test_a_broken_file_costs_its_own_values_only(tmp_path: Path) -> None:
    write(tmp_path, "other.example-1-5", 7)
    (tmp_path / "counter_other.example-2-5.db").write_bytes(b"\xff\xff\xff\x7f" + b"\x00" * 64)
    (tmp_path / "counter_other.example-3-5.db").write_bytes(b"")
    assert total(tmp_path) == 7


def test_a_folder_is_emptied_of_metrics_alone(tmp_path: Path) -> None:
    write(tmp_path, "other.example-1-5", 7)
    (tmp_path / "notes.txt").touch()
    empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert total(tmp_path) == 0
    empty(tmp_path / "absent")
    assert list(Kept(tmp_path / "absent").collect()) == []


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    handle = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    yield lines
    logger.remove(handle)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").touch()
    assert not files.start(tmp_path / "file" / "metrics")
    assert len(said) == 1 and "METRICS_DIR" in said[0]


def test_the_version_is_the_projects() -> None:
    assert f'\nversion = "{exposition.VERSION}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
