"""An open chart comes back complete by itself: its feed, run by node over a made-up server (chart_feed.mjs)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.config import ROOT
from tests.timescale.servers import node

SCRIPT = Path(__file__).with_name("chart_feed.mjs")
SCENARIOS = re.findall(r"^  async (\w+)\(", SCRIPT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages' modules and the script, where node takes them for modules."""
    found = shutil.copytree(ROOT / "static" / "js", tmp_path_factory.mktemp("feed") / "js")
    (found / "package.json").write_text('{"type": "module"}')
    shutil.copy(SCRIPT, found)
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_chart_comes_back_complete(folder: Path, scenario: str) -> None:
    program = node()
    if program is None:
        pytest.skip("no node on this machine")
    done = subprocess.run(
        [program, SCRIPT.name, scenario], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
