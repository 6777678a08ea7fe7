"""`make bench`: which scripts it runs, and how it ends."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from app.config import ROOT

ENDS_WITH_A_CODE = re.compile(r"^    (sys\.exit|raise SystemExit)\((asyncio\.run\()?main\(", re.MULTILINE)


def test_it_runs_every_script_that_judges_a_goal() -> None:
    found = re.search(r"^BENCHES := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    judging = {
        path.stem for path in (ROOT / "bench").glob("*.py") if ENDS_WITH_A_CODE.search(path.read_text(encoding="utf-8"))
    }
    assert sorted(found[1].split()) == sorted(judging - {"compression"}), "which needs a TimescaleDB"


def test_it_goes_on_after_a_miss_and_fails_at_the_end(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "ran $1"\n[ "$1" != bench/chart.py ]\n', encoding="utf-8")
    python.chmod(0o755)
    ended, said = _bench(python, "drain chart live")
    assert ended.returncode != 0 and "missed or failed: chart\n" in ended.stderr
    assert said == ["drain", "chart", "live"]
    ended, said = _bench(python, "drain live")
    assert ended.returncode == 0 and said == ["drain", "live"]


def _bench(python: Path, names: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`make bench` of these by that program, without what makes the environment."""
    bench = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nbench: ", 1)[1].split("\n\n", 1)[0]
    makefile = python.with_name("Makefile")
    makefile.write_text(f".PHONY: bench\nbench:\n{bench.partition(chr(10))[2]}\n", encoding="utf-8")
    command = ["make", "-f", str(makefile), "bench", f"PY={python}", f"BENCHES={names}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ended, re.findall(r"^ran bench/(\w+)\.py$", ended.stdout, re.MULTILINE)
