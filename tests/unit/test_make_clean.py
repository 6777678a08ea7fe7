"""`make clean` beside a platform that runs, or once ran."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import ROOT
from app.local.runfile import hold

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def _clean(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "clean"], cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def _checkout(folder: Path) -> None:
    inputs = (".python-version", "requirements.txt", "requirements-dev.txt", "package.json", "package-lock.json")
    for name in ("Makefile", "app/local/running.py", *inputs):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)


@pytest.mark.parametrize("data", [".data", ".data-live"])
def test_it_leaves_a_platform_that_runs_alone(tmp_path: Path, data: str) -> None:
    _checkout(tmp_path)
    kept = tmp_path / ".data" / "bars"
    with hold(tmp_path / data):
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
        refused = _clean(tmp_path)
        assert refused.returncode != 0
        assert f"the platform runs on {data}: stop it first" in refused.stderr
        assert kept.exists()
    assert _clean(tmp_path).returncode == 0
    assert not kept.exists()
    assert (tmp_path / data).exists() == (data != ".data")
    assert not (tmp_path / ".venv").exists()


def test_it_leaves_platforms_alone_whose_data_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    _checkout(checkout)
    monkeypatch.setattr("app.local.runfile.ROOT", checkout)
    with hold(checkout / "data"):
        with hold(tmp_path / "elsewhere"):
            refused = _clean(checkout)
            assert refused.returncode != 0
            assert "the platform runs on a DATA_DIR elsewhere: stop it first" in refused.stderr
        assert _clean(checkout).returncode != 0
        assert (checkout / ".venv").exists()
    assert _clean(checkout).returncode == 0
    assert not (checkout / ".venv").exists() and (checkout / "data").exists()
