"""The folder of metrics: many processes, some of them gone, and no counter that goes back."""

from __future__ import annotations

import errno
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
from app.metrics import alive, empty, exposition, files
from app.metrics.files import Kept, sum_up_ended
from tests.disks import small_disk

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
    assert len(names) == 5 and sum(name.endswith("-ended.db") for name in names) == 2


UNSEEN = """
import os, signal, sys
from pathlib import Path
from app.metrics import recorded
from app.metrics.files import Kept, start
folder = Path(sys.argv[1])
assert start(folder)
most = 0
for _ in range(12):
    if (pid := os.fork()) == 0:
        recorded.batch_committed("binance", rows=10, accepted=10, queued_s=3.0, lag_s=None)
        recorded.socket_opened("/ws")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    most = max(most, len(list(folder.glob("*.db*"))))
values = {sample.name: sample.value for metric in Kept(folder).collect() for sample in metric.samples}
print(most, values["market_trades_total"])
"""


def test_children_that_die_unseen_leave_a_bounded_number_of_files(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", UNSEEN, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    most, trades = map(float, out.stdout.split())
    assert most == 8, "three of the parent's, three of the last child's, and two sums"
    assert trades == 120


def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with files._locked(tmp_path) as alone:
        child = subprocess.Popen(["cat"], stdin=reading, pass_fds=_handles(tmp_path / ".lock"))
        assert alone
    try:
        with files._locked(tmp_path, wait_s=0.0) as again:
            assert again and child.poll() is None
    finally:
        os.close(writing)
        os.close(reading)
        child.wait(10)


def _handles(path: Path) -> list[int]:
    """The open files of this process that are `path`, which a fork would hand on."""
    return [int(link.name) for link in Path("/proc/self/fd").iterdir() if link.exists() and link.samefile(path)]


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


def mine(*, began: int = 0) -> str:
    """The name of this process, or of one that had its id and began otherwise."""
    ticks, _, boot = alive.began().partition("x")
    return f"{files.host()}-{os.getpid()}-{int(ticks) + began}x{boot}"


def test_an_id_used_again_is_another_process_and_each_host_tells_its_own(tmp_path: Path) -> None:
    now, before = write(tmp_path, mine(), 1), write(tmp_path, mine(began=1000), 10)
    elsewhere = write(tmp_path, "other.example-1-5", 100)
    longer = write(tmp_path, f"{files.host()}-1-1-5", 10_000)  # of a host whose name begins as ours
    gauge = write(tmp_path, mine(began=1000), 1000, kind="gauge_livesum")
    assert total(tmp_path) == 11
    assert now.exists() and elsewhere.exists() and longer.exists() and not before.exists() and not gauge.exists()
    write(tmp_path, mine(began=500), 5)
    assert total(tmp_path) == 16
    sum_up_ended(tmp_path)
    assert total(tmp_path) == 16
    assert elsewhere.exists()


def test_a_broken_file_costs_its_own_values_only(tmp_path: Path) -> None:
    write(tmp_path, mine(), 7)
    (tmp_path / f"histogram_{mine()}.db").write_bytes(b"\xff\xff\xff\x7f" + b"\x00" * 64)
    (tmp_path / f"counter_{mine(began=1)}.db").write_bytes(b"\xff\xff\xff\x7f" + b"\x00" * 64)
    (tmp_path / f"counter_{mine(began=2)}.db").write_bytes(b"")
    assert total(tmp_path) == 7


def test_a_folder_is_emptied_of_metrics_alone(tmp_path: Path) -> None:
    write(tmp_path, mine(), 7)
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


FULL = """
import errno, os, sys
from pathlib import Path
from app.metrics import files, recorded
folder = Path(sys.argv[1])
files.SHARED_MEMORY = str(folder)
assert files.start(folder)
recorded.chart_looked_up(hit=True)
def full(handle, *_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.posix_fallocate = full
for _ in range(4):
    if (pid := os.fork()) == 0:
        recorded.chart_looked_up(hit=True)
        recorded.socket_opened("/ws")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
assert len(list(folder.glob("metrics-*"))) == 1, "of the last one: it goes with the next"
assert len(list(folder.glob("*.db"))) == 3
print([sample.value for metric in files.Kept(folder).collect() for sample in metric.samples])
"""


def test_a_full_disk_costs_the_metrics_of_new_processes_and_nothing_else(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout == "[1.0]\n" and "METRICS_DIR" in out.stderr and "No space left" in out.stderr

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    gone = [write(tmp_path, mine(began=n), 5) for n in (500, 1000)]
    assert total(tmp_path) == 11 and all(path.exists() for path in gone), "no room for the sum"
    said.clear()
    assert not files.start(tmp_path) and len(said) == 2
    monkeypatch.undo()
    assert total(tmp_path) == 11 and not any(path.exists() for path in gone)


OUT_OF_ROOM = """
import resource, sys
from pathlib import Path
from app.metrics import files, recorded
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
assert files.start(folder)
recorded.request_ended("/early", "GET", 200, seconds=0.1)

def pairs():
    for n in range(500):
        recorded.request_ended(f"/api/a-route/{n}", "GET", 200, seconds=0.1)

def told():
    return sum(s.value for m in files.Kept(folder).collect() for s in m.samples if s.name.endswith("seconds_count"))

if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
else:
    try:
        with (folder / "full").open("wb") as full:
            while True:
                full.write(bytes(4096))
                full.flush()
    except OSError:
        pass
pairs()
recorded.request_ended("/early", "GET", 200, seconds=0.1)
before = told()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    (folder / "full").unlink()
pairs()
sizes = [(path.stat().st_size, path.stat().st_blocks * 512) for path in folder.glob("*.db")]
assert all(size <= taken for size, taken in sizes), sizes
assert max(sizes)[0] > files.ROOM_BYTES["histogram"], sizes
print(before, told())
"""


def out_of_room(folder: Path, *, limit: int = 0) -> tuple[float, float]:
    """How many requests are told, of 502 with too little room for the labels of all, and of 500 more with room."""
    out = subprocess.run(
        [sys.executable, "-c", OUT_OF_ROOM, str(folder), str(limit)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert out.returncode == 0, (out.returncode, out.stderr)
    assert out.stderr.count("until there is room") == 1
    before, after = map(float, out.stdout.split())
    return before, after


def test_values_without_room_end_no_process_and_are_told_when_there_is_room(tmp_path: Path) -> None:
    before, after = out_of_room(tmp_path, limit=files.ROOM_BYTES["histogram"])
    assert 250 < before < 502 and after == 1002, "what was counted without room is not lost"


def test_a_disk_that_gets_full_ends_no_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3 << 20) as disk:
        if disk is None:
            pytest.skip("no disk may be mounted here")
        before, after = out_of_room(disk)
        assert 250 < before < 502 and after == 1002


SCRAPED = """
import os, sys
from pathlib import Path
from app.metrics import files, recorded
folder = Path(sys.argv[1])
assert files.start(folder)
if (pid := os.fork()) == 0:
    recorded.batch_committed("binance", rows=10, accepted=10, queued_s=3.0, lag_s=None)
    os._exit(0)
os.waitpid(pid, 0)
try:
    with (folder / "full").open("wb") as full:
        while True:
            full.write(bytes(4096))
            full.flush()
except OSError:
    pass
def told():
    return [s.value for m in files.Kept(folder).collect() for s in m.samples if s.name == "market_trades_total"]
before, held = told(), len(list(folder.glob("*.db")))
(folder / "full").unlink()
print(before, held, told(), len(list(folder.glob("*.db"))), list(folder.glob("*.new")))
"""


def test_a_scrape_of_a_full_disk_ends_no_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 5 << 20) as disk:
        if disk is None:
            pytest.skip("no disk may be mounted here")
        out = subprocess.run(
            [sys.executable, "-c", SCRAPED, str(disk)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert out.returncode == 0, (out.returncode, out.stderr)
    assert out.stdout == "[10.0] 6 [10.0] 5 []\n"


def test_a_clock_that_is_set_makes_no_process_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = write(tmp_path, f"{files.host()}-{os.getpid()}-{alive.began()}", 7)
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    assert total(tmp_path) == 7 and now.exists()
    sum_up_ended(tmp_path)
    assert now.exists() and now.name.endswith(f"-{alive.began()}.db")


def test_a_process_lives_by_its_beginning_and_its_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, began = os.getpid(), alive.began()
    ticks, _, boot = began.partition("x")
    assert alive.lives(pid, began)
    assert not alive.lives(pid, f"{int(ticks) + 1}x{boot}")
    assert not alive.lives(pid, f"{ticks}x{'0' * len(boot)}"), "of an earlier boot"
    child = subprocess.Popen(["true"])
    monkeypatch.setattr(os, "getpid", lambda: child.pid)
    of_child = alive.began()
    monkeypatch.undo()
    while Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    assert not alive.lives(child.pid, of_child), "nobody has waited for it"
    child.wait(10)
    assert not alive.lives(child.pid, of_child)

    monkeypatch.setattr(alive, "PROC", tmp_path)  # another system: the clock is all there is
    by_clock = alive.began()
    assert by_clock.isdigit() and alive.lives(pid, by_clock) and not alive.lives(pid, str(int(by_clock) - 60))


def test_the_version_is_the_projects() -> None:
    assert f'\nversion = "{exposition.VERSION}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
