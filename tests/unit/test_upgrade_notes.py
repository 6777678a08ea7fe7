"""What the migration has to say at the start is shown, whatever brackets are in it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from app.config import load_settings
from app.errors import ServerFailed
from app.local import run
from app.local.run import Platform


def migrate(monkeypatch: pytest.MonkeyPatch, folder: Path, said: str, code: int = 0) -> str:
    """What the console shows when `db upgrade` says this."""
    process = SimpleNamespace(poll=lambda: code, returncode=code, stdout=io.BytesIO(said.encode()))
    monkeypatch.setattr(run.subprocess, "Popen", lambda *_, **__: process)
    shown = io.StringIO()
    console = Console(file=shown, width=200, color_system=None)
    Platform(load_settings(data_dir=folder, _env_file=None), console=console, table=lambda *_: [])._migrate({})
    return shown.getvalue()


def test_its_notes_are_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "! the tables stay plain: x may not [create] it\nsomething else\nthe schema is up to date\n"
    assert migrate(monkeypatch, tmp_path, said) == (
        "! the tables stay plain: x may not [create] it\n✓ database schema up to date\n"
    )


def test_its_failure_ends_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="could not be brought up to date:\nerror: the database refused: no"):
        migrate(monkeypatch, tmp_path, "error: the database refused: no\n", code=1)
