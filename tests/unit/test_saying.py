"""No console ends or hinders the platform: one that is gone, full or closed, or has no such letters."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from app.config import load_settings
from app.local.child import ChildSpec, State
from app.local.run import Platform
from app.local.saying import Voice
from app.local.supervisor import Supervisor
from app.logs import logger


class Broken(io.StringIO):
    """A stream that takes nothing while `number` says why: when it is flushed, as files do, or at once."""

    def __init__(self, number: int, *, at_once: bool = False) -> None:
        super().__init__()
        self.number, self.at_once = number, at_once

    def write(self, text: str) -> int:
        if self.at_once:
            self._fail()
        return super().write(text)

    def flush(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), format="{message}")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_what_a_console_does_not_take_is_in_the_log(number: int, at_once: bool, logged: list[str]) -> None:
    say = Voice(Console(file=Broken(number, at_once=at_once)))
    say("[green]✓[/] one")
    say("two")
    assert [line for line in logged if "console" not in line] == ["✓ one", "two"]
    (told,) = (line for line in logged if "console" in line)
    assert os.strerror(number) in told


def test_a_full_disk_that_has_room_again_gets_the_next_line_and_no_line_twice() -> None:
    stream = Broken(errno.ENOSPC, at_once=True)
    say = Voice(Console(file=stream))
    say("lost")
    stream.number = 0
    say("[bold]told[/]")
    assert stream.getvalue() == "told\n"


def test_neither_a_closed_console_nor_missing_letters_hinder(logged: list[str]) -> None:
    closed = io.StringIO()
    closed.close()
    Voice(Console(file=closed))("✓ one")
    Voice(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))("✓ two")
    assert [line for line in logged if line.startswith("✓")] == ["✓ one", "✓ two"]


def test_a_pipe_whose_reader_is_gone_is_no_error_at_the_end_either() -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        say = Voice(Console(file=stream))
        os.close(reader)
        say("one")
        say("two")  # and leaving the block flushes, as the interpreter does


def test_a_death_is_reported_and_the_rest_is_stopped_without_a_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child's death is told in the middle of a look, and "Stopping" before anything is stopped."""
    settings = load_settings(_env_file=None, data_dir=tmp_path, log_dir=tmp_path)
    platform = Platform(settings, console=Console(file=Broken(errno.EPIPE)), table=lambda *_: [])
    stopped: list[str] = []
    spec = ChildSpec("first", ("/nonexistent/program",), 0.0)
    supervisor = Supervisor(
        [spec], environment={}, cwd=tmp_path, run_dir=tmp_path, log_dir=tmp_path, say=platform._say,
        changed=lambda: None,
    )  # fmt: skip
    supervisor.tick()
    assert supervisor.children["first"].state is State.RESTARTING
    platform._signals = 1
    monkeypatch.setattr(supervisor, "stop", lambda **_: stopped.append("children"))
    monkeypatch.setattr(platform, "_supervisor", supervisor)
    monkeypatch.setattr(platform, "_embedded", SimpleNamespace(stop=lambda: stopped.append("servers")))
    platform._stop()
    assert stopped == ["children", "servers"]
