"""The simulated market for tests: a child process on a free port, ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A market that answers: `url` for REST and control, `stream_url` for WebSockets (no path, no slash)."""

    url: str
    stream_url: str
    process: subprocess.Popen[str]

    def get(self, path: str) -> Any:
        """The JSON answer to GET `path`."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer to POST `path`."""
        request = urllib.request.Request(self.url + path, json.dumps(body or {}).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def truth(self, symbol: str, timeframe: str = "1m", **window: int) -> list[dict[str, Any]]:
        """The closed true bars, decimals as text; `start` inclusive and `end` exclusive, in ms."""
        extra = "".join(f"&{name}={value}" for name, value in window.items())
        answer = self.get(f"/sandbox/truth?symbol={symbol.replace('/', '')}&timeframe={timeframe}{extra}")
        bars: list[dict[str, Any]] = answer["bars"]
        return bars

    def start(self, **body: Any) -> Any:
        """Start the clock (of a market started with paused=True), or start it anew."""
        return self.post("/sandbox/start", body)

    def stop(self) -> Any:
        """Put the clock back to its start, where it waits."""
        return self.post("/sandbox/stop")

    def fault(self, kind: str, **options: Any) -> Any:
        """Put a fault in force."""
        return self.post("/sandbox/faults", {"kind": kind, **options})

    def trade(self, symbol: str, price: str, quantity: str) -> Any:
        """Have one trade happen now; returns its id and time."""
        return self.post("/sandbox/trade", {"symbol": symbol, "price": price, "quantity": quantity})


@contextmanager
def start_sandbox(**args: Any) -> Iterator[RunningSandbox]:
    """`python -m app.sandbox` with `args` as its options, on a free port; ended on the way out.

    start_sandbox(speed=600, replay=[path], paused=True, symbols="BTC/USDT,ETH/USDT", rate=20, history_hours=1,
    start="2019-10-11T00:00", end="2019-10-11T02:00", faults="duplicate:probability=0.1", weight_limit=100)
    """
    command = [sys.executable, "-m", "app.sandbox", "--port", "0", *_options(args)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        url = _ready(process)
        yield RunningSandbox(url, url.replace("http", "ws", 1), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()


def _options(args: dict[str, Any]) -> Iterator[str]:
    for name, value in args.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            yield option
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield option
            yield from map(str, value)
        elif value is not None and value is not False:
            yield from (option, str(value))


def _ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if " ready on " not in line:
        process.wait(timeout=5)
        raise RuntimeError(f"the sandbox did not start (exit code {process.returncode}): {line}")
    url = line.rsplit(" ", 1)[1].strip()
    for _ in range(50):
        try:
            urllib.request.urlopen(url + "/sandbox/health", timeout=5).close()
            return url
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the sandbox does not answer")
