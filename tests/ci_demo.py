"""CI's look at the product: `make demo` in this clone, a chart whose live bar moves, Ctrl-C, nothing left over.

Run by `.ci/run`; exits with a message on the first thing that is wrong.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_S, MOVE_S, STOP_S = 120.0, 20.0, 15.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        data_dir = Path(folder) / "data"
        terminal, child_side = pty.openpty()
        env = {
            **os.environ, "DATA_DIR": str(data_dir), "LOG_DIR": f"{folder}/logs",
            "WEB_PORT": "0", "FLOWER_PORT": "0", "SANDBOX_PORT": "0",
        }  # fmt: skip
        began = time.monotonic()
        demo = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "make", "demo"], cwd=ROOT, env=env,
            stdin=child_side, stdout=child_side, stderr=child_side,
        )  # fmt: skip
        os.close(child_side)
        output = bytearray()
        os.set_blocking(terminal, False)
        try:
            url = _wait_for_chart(data_dir, demo, terminal, output)
            print(f"a chart after {time.monotonic() - began:.0f} s")
            _wait_for_move(url)
            _drain(terminal, output)
            _memory(data_dir)
            code, seconds = _interrupt(demo, terminal, output)
            print(f"stopped {seconds:.1f} s after Ctrl-C, exit code {code}")
            left = _left_over(data_dir)
        except BaseException:
            _drain(terminal, output)
            print(output.decode("utf-8", "replace"), file=sys.stderr)
            _show_logs(Path(folder) / "logs")
            raise
        finally:
            if demo.poll() is None:
                demo.kill()
            for process in _left_over(data_dir):
                process.kill()
        if code != 0 or seconds > STOP_S or left:
            print(output.decode("utf-8", "replace"), file=sys.stderr)
            raise SystemExit(f"the demo did not end well: code {code}, {seconds:.1f} s, left over {left}")


def _wait_for_chart(data_dir: Path, demo: subprocess.Popen[bytes], terminal: int, output: bytearray) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        _drain(terminal, output)
        if demo.poll() is not None:
            raise SystemExit(f"make demo ended with code {demo.returncode}")
        try:
            run = json.loads((data_dir / "run.json").read_text())
            url = f"{run['web_url']}/api/charts/BTC-USDT?exchange=binance&limit=2"
            if _get(url)["bars"]:
                return url
        except (OSError, ValueError):
            pass  # not up yet
        time.sleep(0.5)
    raise SystemExit(f"no chart after {START_S:.0f} s")


def _wait_for_move(url: str) -> None:
    first = _get(url)["bars"]
    deadline = time.monotonic() + MOVE_S
    while time.monotonic() < deadline:
        time.sleep(0.5)
        if _get(url)["bars"] != first:
            print("its live bar moves")
            return
    raise SystemExit(f"the live bar did not move within {MOVE_S:.0f} s: {first}")


def _interrupt(demo: subprocess.Popen[bytes], terminal: int, output: bytearray) -> tuple[int, float]:
    """Presses Ctrl-C on the demo's terminal."""
    began = time.monotonic()
    os.write(terminal, b"\x03")
    while demo.poll() is None and time.monotonic() - began < 2 * STOP_S:
        _drain(terminal, output)
        time.sleep(0.1)
    return demo.poll() if demo.returncode is not None else -1, time.monotonic() - began


def _left_over(data_dir: Path) -> list[psutil.Process]:
    """Every process that works for this DATA_DIR, or in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATA_DIR") == str(data_dir) or process.cwd().startswith(str(data_dir)):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def _memory(data_dir: Path) -> None:
    env = {**os.environ, "DATA_DIR": str(data_dir)}
    subprocess.run([sys.executable, "bench/memory.py"], cwd=ROOT, env=env, check=True)


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-30:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def _get(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        return json.load(answer)


def _drain(terminal: int, output: bytearray) -> None:
    try:
        while chunk := os.read(terminal, 65536):
            output += chunk
    except (BlockingIOError, OSError):
        pass  # nothing more for now, or the other side is closed


if __name__ == "__main__":
    main()
