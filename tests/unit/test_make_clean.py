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


@pytest.mark.parametrize("data", [".data", ".data-live"])
def test_it_leaves_a_platform_that_runs_alone(tmp_path: Path, data: str) -> None:
    for name in ("Makefile", ".python-version", "requirements.txt", "requirements-dev.txt", "app/local/running.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
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
