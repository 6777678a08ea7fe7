"""How a rolling restart goes about it: in which order, side by side, and what comes of a successor that dies."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from app.config import ROOT, Settings, load_settings
from app.errors import BadInput
from app.local.child import ChildSpec, State
from app.local.restarts import Restarts, ask
from app.local.rolling import Failed, Rolling
from app.local.run import Platform
from app.local.supervisor import Supervisor

SERVES = "import os, pathlib, time; pathlib.Path(os.environ['READY_FILE']).touch(); time.sleep(900)"


class Messages:
    """What is left for the workers: what it was told to answer, one after the other, and the last one for ever."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers) or [0]
        self.closed = 0
        self.asked: list[Sequence[str]] = []

    def left(self, queues: Sequence[str]) -> int:
        self.asked.append(queues)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.closed += 1


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
        end = time.monotonic() + 90
        while not over():
            assert time.monotonic() < end, self.said
            self.supervisor.tick()
            time.sleep(0.02)

    def roll(self, table: list[ChildSpec], *names: str, work: Messages | None = None) -> list[str]:
        """What a restart said."""
        told: list[str] = []
        for _ in Rolling(self.supervisor, say=told.append, work=work or Messages()).run(table, names):
            self.supervisor.tick()
            time.sleep(0.02)
        return told

    @property
    def pids(self) -> dict[str, int]:
        return self.supervisor.pids


def spec(folder: Path, name: str, *, beside: bool = True, code: str = SERVES) -> ChildSpec:
    ready = (folder / f"{name}.ready").exists
    return ChildSpec(name, (sys.executable, "-S", "-c", code), ready, beside=beside, again={"-S": "-I"})


def reading(worker: ChildSpec, queues: str) -> ChildSpec:
    return replace(worker, argv=(*worker.argv, "-Q", queues))


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
    first, second = (reading(spec(tmp_path, f"worker-{n}"), f"trades.{n},bars") for n in range(2))
    stages.append(stage := Stage(tmp_path, first, second, spec(tmp_path, "streamer-0")))
    new = [first, spec(tmp_path, "streamer-1")]
    monkeypatch.setattr("app.local.rolling.DRAIN_S", 0.2)
    with pytest.raises(Failed, match="3 messages wait for worker-1 still: it stays"):
        stage.roll(new, work=(work := Messages(3)))
    assert work.closed == 1 and work.asked[0] == ["trades.1"], "the other's queues are of no concern"
    assert stage.roll(new, "worker-0") and "worker-1" in stage.pids, "who names some leaves the others alone"
    monkeypatch.setattr("app.local.rolling.DRAIN_S", 30)
    # The worker gives back two at its end, and they are done by it all the same.
    told = stage.roll(new, work=(work := Messages(1, 0, 2, 0)))
    assert [line.split()[0] for line in told] == ["worker-0", "streamer-1", "worker-1", "worker-1"]
    assert "worker-1 started" in told[2] and "not needed any more" in told[3]
    assert work.closed == 1 and len(work.asked) > 4
    assert stage.pids.keys() == {"worker-0", "streamer-1"} and stage.supervisor.passing == []


class Desk:
    """Restarts of a stage, asked as the command does."""

    def __init__(self, folder: Path, stage: Stage, table: Callable[[Settings], list[ChildSpec]]) -> None:
        self.folder, self.stage, self.changed = folder, stage, list[int]()
        self.settings = load_settings(_env_file=None, data_dir=folder, log_dir=folder / "logs")
        self.said: list[str] = []
        self.restarts = Restarts(
            stage.supervisor, run_dir=folder, say=self._say, table=table, work=Messages(),
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self.said.append(Text.from_markup(text).plain)  # as `up` does: bad markup raises

    def tick(self) -> None:
        self.restarts.tick(self.settings, lambda wanted: self.changed.append(wanted.trade_shards))

    def answer(self, *names: str, **shards: int) -> list[dict[str, Any]]:
        path = ask(self.folder, names, shards)
        assert (self.folder / "restart.json").stat().st_mode & 0o077 == 0

        def over() -> bool:
            self.tick()
            return bool(told(path)) and bool(told(path)[-1]["done"])

        self.stage.drive(over)
        return told(path)


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_request_is_answered_or_refused_and_never_in_the_way(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "web")))
    desk = Desk(tmp_path, stage, lambda _: [spec(tmp_path, "web")])
    (tmp_path / "restart.json").write_text("{")
    desk.tick()
    assert "a request to restart could not be read" in desk.said[-1]
    (refused,) = desk.answer(trade_shards=0)
    assert refused["code"] == 2 and "TRADE_SHARDS" in str(refused["text"])
    assert desk.changed == []
    before = stage.pids
    answer = desk.answer(trade_shards=3, nonsense=1)
    assert [line["code"] for line in answer] == [0, 0] and answer[-1]["text"] == "done"
    assert desk.changed == [3] and stage.pids["web"] != before["web"]
    assert desk.answer()[-1]["code"] == 0
    assert desk.changed == [3, 3], "it holds until the next up"
    assert desk.answer("wbe")[-1]["code"] == 2
    assert "'[/x]'" in desk.answer("[/x]")[-1]["text"]


def test_nothing_that_goes_wrong_in_a_restart_ends_the_platform(
    tmp_path: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "web")))
    desk = Desk(tmp_path, stage, lambda _: [spec(tmp_path, "web")])
    before = stage.pids

    def no() -> None:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(stage.supervisor, "_changed", no)
        path = ask(tmp_path, [], {"trade_shards": 2})
        for _ in range(3):
            desk.tick()
    (last,) = told(path)
    assert last["code"] == 1 and "broke off (RuntimeError: unforeseen)" in last["text"]
    assert stage.pids == before and desk.changed == [] and stage.supervisor.passing == []
    # A full disk: the answer comes when there is room.
    path = ask(tmp_path, ["nobody"], {})
    write = Path.write_text
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space")))
        for _ in range(3):
            desk.tick()
    assert Path.write_text is write and not path.exists()
    desk.tick()
    assert [line["code"] for line in told(path)] == [2]
    assert desk.answer()[-1]["code"] == 0


def test_a_full_disk_does_not_end_the_platform(tmp_path: Path, stages: list[Stage]) -> None:
    """The list of pids cannot be written: its place is taken by a folder here."""
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "web")))
    (tmp_path / "children.json" / "full").mkdir(parents=True)
    settings = load_settings(_env_file=None, data_dir=tmp_path, log_dir=tmp_path / "logs")
    platform = Platform(settings, console=Console(), table=lambda *_: [])
    platform._supervisor = stage.supervisor
    platform._record()
    (tmp_path / "children.json" / "full").rmdir()
    (tmp_path / "children.json").rmdir()
    platform._record()
    assert [name for name, _, _ in json.loads((tmp_path / "children.json").read_text())] == ["web"]


def test_a_failed_restart_keeps_the_settings_and_a_new_secret_takes_effect(
    tmp_path: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.append(stage := Stage(tmp_path, spec(tmp_path, "web")))
    secret, seen = tmp_path / "secret", list[Settings]()
    secret.write_text("a" * 32)
    monkeypatch.setenv("API_TOKEN_FILE", str(secret))
    monkeypatch.setenv("WEB_PORT", "4711")
    code = [SERVES, "raise SystemExit(1)"]

    def table(settings: Settings) -> list[ChildSpec]:
        seen.append(settings)
        return [spec(tmp_path, "web", code=code[0])]

    desk = Desk(tmp_path, stage, table)
    desk.settings = desk.settings.model_copy(update={"web_port": 8123})
    assert desk.answer()[-1]["code"] == 0
    secret.write_text("b" * 32)
    code.reverse()
    assert desk.answer(trade_shards=5)[-1]["code"] == 1
    code.reverse()
    assert desk.answer()[-1]["code"] == 0
    assert [settings.api_token.get_secret_value() for settings in seen] == ["a" * 32, "b" * 32, "b" * 32]
    assert [settings.trade_shards for settings in seen] == [1, 5, 1] and desk.changed == [1, 1]
    assert {settings.web_port for settings in seen} == {8123}
    assert all(settings.flower_password.get_secret_value() for settings in seen)


def test_only_one_restart_waits_and_none_of_somebody_gone(tmp_path: Path) -> None:
    ask(tmp_path, ["web"], {})
    with pytest.raises(BadInput, match="another restart waits"):
        ask(tmp_path, ["beat"], {})
    path = tmp_path / "restart.json"
    body = json.loads(path.read_text())
    assert body["names"] == ["web"]
    path.write_text(json.dumps({**body, "began": f"1{body['began']}"}))
    ask(tmp_path, ["beat"], {})
    assert json.loads(path.read_text())["names"] == ["beat"]
    assert [left.name for left in tmp_path.iterdir()] == ["restart.json"]
