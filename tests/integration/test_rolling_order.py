"""How a rolling restart goes about it: in which order, side by side, and what comes of a successor that dies."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config import ROOT, load_settings
from app.errors import BadInput
from app.local.child import ChildSpec, State
from app.local.restarts import Restarts, ask
from app.local.rolling import Failed, Rolling
from app.local.supervisor import Supervisor

SERVES = "import os, pathlib, time; pathlib.Path(os.environ['READY_FILE']).touch(); time.sleep(60)"


class Stage:
    """A supervisor of small processes, and what a restart of them says."""

    def __init__(self, folder: Path, *specs: ChildSpec) -> None:
        self.said: list[str] = []
        self.folder = folder
        self.supervisor = Supervisor(
            specs, environment={}, cwd=ROOT, run_dir=folder, log_dir=folder, say=self.said.append, changed=lambda: None
        )
        self.drive(lambda: self.supervisor.settled)

    def drive(self, over: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not over():
            assert time.monotonic() < end, self.said
            self.supervisor.tick()
            time.sleep(0.02)

    def roll(self, table: list[ChildSpec], *names: str, waiting: int = 0) -> list[str]:
        """What a restart said."""
        told: list[str] = []
        for _ in Rolling(self.supervisor, say=told.append, waiting=lambda _spec: waiting).run(table, names):
            self.supervisor.tick()
            time.sleep(0.02)
        return told

    @property
    def pids(self) -> dict[str, int]:
        return self.supervisor.pids


def spec(folder: Path, name: str, *, beside: bool = True, code: str = SERVES) -> ChildSpec:
    ready = (folder / f"{name}.ready").exists
    return ChildSpec(name, (sys.executable, "-S", "-c", code), ready, beside=beside, again={"-S": "-I"})


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.supervisor.stop(hurry=lambda: True)


def test_readers_come_before_writers_and_nobody_is_left(tmp_path: Path, stages: list[Stage]) -> None:
    names = ("sandbox", "streamer-x", "beat", "worker-x", "web")
    table = [spec(tmp_path, name, beside=name != "beat") for name in names]
    stages.append(stage := Stage(tmp_path, *table))
    before = stage.pids
    told = stage.roll(table)
    assert [line.split()[0] for line in told] == ["web", "worker-x", "beat", "streamer-x"]
    assert "ended and started again" in told[2] and "the new one served first" in told[0]
    after = stage.pids
    assert {name for name in names if after[name] == before[name]} == {"sandbox"}
    assert stage.supervisor.passing == []
    assert {child.state for child in stage.supervisor.children.values()} == {State.READY}
    # Two successors in a row have different names in their arguments.
    assert stage.supervisor.children["web"].argv[1] == "-I"
    stage.roll(table, "web")
    assert stage.supervisor.children["web"].argv[1] == "-S"
    with pytest.raises(BadInput, match=r"no process 'wbe'; there are sandbox, streamer-x, beat, worker-x, web"):
        stage.roll(table, "wbe")


def test_a_successor_that_dies_changes_nothing(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "worker-x"), spec(tmp_path, "web")))
    before = stage.pids
    broken = [spec(tmp_path, "worker-x", code="raise SystemExit('a new setting is wrong')"), spec(tmp_path, "web")]
    with pytest.raises(Failed, match=r"the new worker-x ended at once \(.*worker-x\.b\.out\)"):
        stage.roll(broken, "worker-x", "web")
    assert stage.pids["worker-x"] == before["worker-x"]
    assert stage.supervisor.passing == []
    assert "a new setting is wrong" in (tmp_path / "worker-x.b.out").read_text()


def test_who_is_not_needed_leaves_last_and_not_before_its_queue_is_empty(
    tmp_path: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [spec(tmp_path, "worker-0"), spec(tmp_path, "worker-1"), spec(tmp_path, "streamer-0")]
    stages.append(stage := Stage(tmp_path, *old))
    new = [spec(tmp_path, "worker-0"), spec(tmp_path, "streamer-1")]
    monkeypatch.setattr("app.local.rolling.DRAIN_S", 0.2)
    with pytest.raises(Failed, match="3 messages wait for streamer-0 still: it stays"):
        stage.roll(new, waiting=3)
    told = stage.roll(new)
    assert [line.split()[0] for line in told] == ["worker-0", "streamer-1", "streamer-0", "worker-1"]
    assert stage.pids.keys() == {"worker-0", "streamer-1"}


def test_a_request_is_answered_or_refused_and_never_in_the_way(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "web")))
    settings, changed = load_settings(_env_file=None), list[int]()
    restarts = Restarts(
        stage.supervisor, run_dir=tmp_path, say=stage.said.append, table=lambda _: [spec(tmp_path, "web")],
        waiting=lambda _: 0,
    )  # fmt: skip

    def answer(*names: str, **shards: int) -> list[dict[str, object]]:
        path = ask(tmp_path, names, shards)
        assert (tmp_path / "restart.json").stat().st_mode & 0o077 == 0

        def told() -> list[dict[str, object]]:
            return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

        def over() -> bool:
            restarts.tick(settings, lambda wanted: changed.append(wanted.trade_shards))
            return bool(told()) and bool(told()[-1]["done"])

        stage.drive(over)
        return told()

    (tmp_path / "restart.json").write_text("{")
    restarts.tick(settings, lambda _: None)
    assert "a request to restart could not be read" in stage.said[-1]
    (refused,) = answer(trade_shards=0)
    assert refused["code"] == 2 and "TRADE_SHARDS" in str(refused["text"])
    assert changed == []
    before = stage.pids
    told = answer(trade_shards=3, nonsense=1)
    assert [line["code"] for line in told] == [0, 0] and told[-1]["text"] == "done"
    assert changed == [3] and stage.pids["web"] != before["web"]
    assert answer("wbe")[-1]["code"] == 2
