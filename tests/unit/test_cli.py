"""The command line without a platform: help, and bad input ends in one clear line and exit code 2."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.backfilling import parse_range
from app.cli.verify import nothing
from app.config import ROOT
from app.domain.timeframes import Timeframe
from app.errors import BadInput, BadRange

NOW_MS = 1_700_000_000_000  # 2023-11-14T22:13:20


def run(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DATA_DIR": str(data_dir), "DATABASE_URL": "", "REDIS_URL": "", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_is_quick(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    answer = run("--help", data_dir=tmp_path)
    assert answer.returncode == 0
    for command in ("up", "restart", "status", "instruments", "import", "backfill", "db"):
        assert f" {command} " in answer.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.0


@pytest.mark.parametrize(
    "command", [("restart",), ("instruments", "list"), ("backfill", "-s", "BTC/USDT", "--start", "2023-11-01")]
)
def test_with_nothing_running_one_line_tells_how_to_start(command: tuple[str, ...], tmp_path: Path) -> None:
    answer = run(*command, data_dir=tmp_path)
    assert answer.returncode == 1
    expected = f"error: nothing runs on {tmp_path}: start it with `make demo` or `python -m app up`\n"
    assert answer.stderr == expected


def test_a_restart_with_other_shards_names_no_process(tmp_path: Path) -> None:
    helped = run("restart", "--help", data_dir=tmp_path)
    assert "--trade-shards" in helped.stdout and "--stream-shards" in helped.stdout
    answer = run("restart", "--trade-shards", "0", data_dir=tmp_path)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)


def test_status_with_nothing_running_is_exit_code_2(tmp_path: Path) -> None:
    answer = run("status", data_dir=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: nothing runs on ")


@pytest.mark.parametrize(
    ("start", "end", "timeframe", "message"),
    [
        ("2023-11-02", "2023-11-01", "1m", "the range is reversed: 2023-11-02 is after 2023-11-01"),
        ("2023-11-01", "2023-11-01", "1m", "the range is empty: no 1m bar lies between 2023-11-01 and 2023-11-01"),
        ("2023-11-01T00:01", "2023-11-01T23:59", "1d", "the range is empty: no 1d bar lies between"),
        ("2024-11-01", "", "1m", "the range is reversed: 2024-11-01 is after now"),
        ("2024-11-01", "2024-11-02", "1m", "the range is in the future: it starts at 2024-11-01"),
    ],
)
def test_a_range_without_bars_is_refused(start: str, end: str, timeframe: str, message: str) -> None:
    with pytest.raises(BadRange) as caught:
        parse_range(start, end, timeframe, now_ms=NOW_MS)
    assert message in str(caught.value)


@pytest.mark.parametrize(("start", "timeframe"), [("yesterday", "1m"), ("2023-11-01", "2m")])
def test_what_is_no_date_or_timeframe_is_named(start: str, timeframe: str) -> None:
    with pytest.raises(BadInput, match=r"yesterday|2m"):
        parse_range(start, "", timeframe, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("unfinished", "expected", "code", "why"),
    [
        (0, True, 1, "neither the platform nor the exchange has 1m bars of AAPL there; are the dates right?"),
        (0, False, 0, "the market was closed, and neither side has 1m bars of AAPL there"),
        (2, True, 1, "the 2 1m bars of AAPL there are still open"),
    ],
)
def test_verify_that_compared_nothing_says_so_and_why(unfinished: int, expected: bool, code: int, why: str) -> None:
    said = nothing("1m bars of AAPL", unfinished=unfinished, expected=expected)
    assert said == (f"nothing was compared: {why}", code)


def test_a_range_is_cut_to_whole_bars_before_now() -> None:
    assert parse_range("2023-11-14T20:30", "", "1h", now_ms=NOW_MS) == (
        Timeframe.H1, 1_699_995_600_000, 1_699_999_200_000,
    )  # fmt: skip
    assert parse_range("2023-11-14T22:00+02:00", "2023-11-14T22:05+02:00", "1m", now_ms=NOW_MS) == (
        Timeframe.M1, 1_699_992_000_000, 1_699_992_300_000,
    )  # fmt: skip
