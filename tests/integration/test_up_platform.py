"""`python -m app up` itself, with the real processes: a live chart from an empty DATA_DIR, and losing nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.config import ROOT
from tests.integration.test_up import at_work, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Demo:
    """A running platform on free ports."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.out = folder / f"out-{time.monotonic_ns()}.txt"
        self.env = {
            **os.environ, "DATA_DIR": str(self.data_dir), "LOG_DIR": str(folder / "logs"), "DATABASE_URL": "",
            "REDIS_URL": "", "WEB_PORT": "0", "FLOWER_PORT": "0", "SANDBOX_PORT": "0",
        }  # fmt: skip
        self.began = time.monotonic()
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "up"],
                cwd=ROOT, env=self.env, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, what: Callable[[], object], seconds: float) -> float:
        """Seconds since the start when `what` became true."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.out.read_text()
            assert self.process.poll() is None, self.out.read_text()
            time.sleep(0.1)
        return time.monotonic() - self.began

    def bars(self, limit: int = 2) -> list[dict[str, Any]]:
        run = json.loads((self.data_dir / "run.json").read_text())
        url = f"{run['web_url']}/api/charts/BTC-USDT?exchange=binance&limit={limit}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["bars"]
            return found

    def metrics(self) -> str:
        """What the web tells of all processes."""
        run = json.loads((self.data_dir / "run.json").read_text())
        with urllib.request.urlopen(f"{run['web_url']}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def live(self) -> bool:
        """Whether the newest bar holds trades of the stream."""
        try:
            bars = self.bars()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except (OSError, ValueError, KeyError):
            return False
        return bool(bars) and bars[-1]["origin"] == "trades" and bars[-1]["trade_count"] > 0

    def ready(self) -> bool:
        return "Ctrl-C stops everything" in self.out.read_text()

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=100, check=False)

    def stop(self) -> float:
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        return time.monotonic() - began


@pytest.fixture
def start() -> Iterator[Callable[[], Demo]]:
    folder = Path(tempfile.mkdtemp(prefix="platform-", dir="/var/tmp"))
    folder.chmod(0o755)
    started: list[Demo] = []

    def make() -> Demo:
        started.append(Demo(folder))
        return started[-1]

    yield make
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait()
    for process in at_work(folder / "data"):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_live_chart_from_an_empty_directory_and_back_to_rest(start: Callable[[], Demo]) -> None:
    demo = start()
    live_s = demo.wait_for(demo.live, 240)
    demo.wait_for(demo.ready, 240)
    began = time.monotonic()
    status = demo.cli("status", "--json")
    command_s = time.monotonic() - began  # of two seconds' work; tests share their machine
    assert live_s < max(60, 20 + 20 * command_s)  # 30 s on an idle machine
    facts = json.loads(status.stdout)
    rows = {item["name"]: item for item in facts["processes"]}
    assert len(rows) == len(facts["processes"]), "each process once"
    rows.pop("poller-yahoo", None)  # a part of worker-history that speaks for itself
    assert {row["state"] for row in rows.values()} == {"ready"}, facts["troubles"]
    silent = {name for name, row in rows.items() if row["heard_s"] is None or row["heard_s"] > 30}
    assert silent <= {"sandbox"}, "every process of the platform beats"
    assert "BTC/USDT" in demo.cli("instruments", "list").stdout
    told = demo.metrics()  # of every worker: all share one folder
    for task in ("bars.close_due", "bars.ingest", "upkeep.scan", "backfill.run"):
        assert f'market_tasks_total{{state="success",task="tasks.{task}"}}' in told
    assert 'market_process_ready{process="streamer-binance"} 1.0' in told
    assert 'market_trade_to_commit_seconds_count{exchange="binance"}' in told
    for name, code in (("worker-trades", 0), ("flower", 0), ("worker", 1)):
        assert demo.cli("health", name).returncode == code, name

    for arguments, message in (
        (("instruments", "add", "nonsense"), "error: 'nonsense' is not a symbol of binance"),
        (("instruments", "add", "A/B", "-e", "mtgox"), "error: unknown exchange 'mtgox'"),
        (("backfill", "-s", "NO/SUCH", "--start", "2024-01-01"), "error: unknown symbol 'NO/SUCH' on binance"),
    ):
        answer = demo.cli(*arguments)
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert answer.stderr.startswith(message)

    assert demo.stop() < max(15, 10 + 3 * command_s)
    assert demo.process.returncode == 0
    assert at_work(demo.data_dir) == []


def test_what_a_killed_platform_left_is_ended_and_no_bar_is_lost(start: Callable[[], Demo]) -> None:
    killed = start()
    killed.wait_for(killed.ready, 240)
    killed.wait_for(killed.live, 150)
    before = killed.bars()[-1]
    left = at_work(killed.data_dir)
    assert len(left) > 10
    killed.process.kill()
    killed.process.wait()

    demo = start()
    start_s = demo.wait_for(demo.ready, 240)
    demo.wait_for(demo.live, 150)
    assert all(gone(process) for process in left)
    after = next(bar for bar in demo.bars(limit=30) if bar["time"] == before["time"])
    assert after["open"] == before["open"] and after["trade_count"] >= before["trade_count"]

    worker = next(p for p in psutil.Process(demo.process.pid).children() if "trades.0" in p.cmdline())
    worker.kill()
    demo.wait_for(lambda: "worker-trades ready again" in demo.out.read_text(), 150)
    moved = demo.bars()
    demo.wait_for(lambda: demo.bars() != moved, 120)
    assert demo.stop() < max(15, start_s / 2)
    assert at_work(demo.data_dir) == []
