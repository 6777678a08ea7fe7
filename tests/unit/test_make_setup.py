"""`make setup` where an environment was left half made, or cannot be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from app.config import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

# Stand-ins for a Python of the wanted version, and for that of the environment it makes.
WHOLE = r"""#!/bin/sh
case "$*" in "-m venv"*) mkdir -p .venv/bin; printf '#!/bin/sh\necho "$@" >> said\n' > .venv/bin/python
    chmod +x .venv/bin/python;; esac
"""
WITHOUT_ENSUREPIP = r"""#!/bin/sh
case "$*" in *ensurepip*) exit 1;; "-m venv"*) mkdir -p .venv/bin; ln -s /bin/false .venv/bin/python; exit 1;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", ".python-version", "requirements.txt", "package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements-dev.txt").touch()
    return tmp_path


def make(checkout: Path, python: Path, *more: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Makes the environment alone, without the npm files; `first` goes before the folders of PATH."""
    path = ":".join([*([str(first)] if first else []), os.environ["PATH"]])
    return subprocess.run(
        ["make", "PY_STAMP=.venv/made", f"PYTHON={python}", *more, ".venv/made"],
        cwd=checkout, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def a_python(folder: Path, script: str, name: str = "python") -> Path:
    folder.mkdir()
    python = folder / name
    python.write_text(script, encoding="utf-8")
    python.chmod(0o755)
    return python


def test_an_environment_without_pip_is_made_anew(checkout: Path, tmp_path: Path) -> None:
    venv.create(checkout / ".venv", with_pip=False, symlinks=True)  # as one is left that was interrupted
    whole = a_python(tmp_path / "whole", WHOLE)
    made = make(checkout, whole)
    assert made.returncode == 0, made.stderr
    assert f"making .venv with {whole}" in made.stdout
    assert "-m pip --disable-pip-version-check -qq install" in (checkout / "said").read_text()


def test_one_that_is_whole_is_kept(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)  # its packages too
    kept = make(checkout, a_python(tmp_path / "whole", WHOLE), "PIP=true")
    assert kept.returncode == 0, kept.stderr
    assert "making" not in kept.stdout


def test_a_python_that_cannot_put_pip_into_one_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    whole = a_python(tmp_path / "whole", WHOLE, f"python{(ROOT / '.python-version').read_text().strip()}")
    without = a_python(tmp_path / "without", WITHOUT_ENSUREPIP)
    made = make(checkout, without, first=whole.parent)
    assert made.returncode == 0, made.stderr
    assert f"making .venv with {whole.name}" in made.stdout
