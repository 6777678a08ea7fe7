"""A gunicorn process as `up` starts it, for tests that need real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from app.config import ROOT, Settings
from app.local.servers import free_port
from tests.processes import NOWHERE


@contextmanager
def web_server(settings: Settings, **overrides: object) -> Iterator[str]:
    """The `host:port` of a running web process on these settings; overrides are environment variables."""
    port = free_port()
    values = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "DATA_DIR": settings.data_dir,
        "LOG_DIR": settings.log_dir,
        "WEB_PORT": port,
        "BINANCE_API_URL": os.environ.get("BINANCE_API_URL", f"http://{NOWHERE}"),
        "RATE_LIMIT_READS": settings.rate_limit_reads,
        "RATE_LIMIT_WRITES": settings.rate_limit_writes,
        "WS_PER_CLIENT": settings.ws_per_client,
        **overrides,
    }
    log = settings.data_dir / f"web-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "webapp/gunicorn_conf.py", "webapp:create_app()"],
            cwd=ROOT,
            env={**os.environ, **{name: str(value) for name, value in values.items()}},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(f"http://127.0.0.1:{port}/api/symbols", process, log.read_text)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _await(url: str, process: subprocess.Popen[bytes], said: Any) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None, said()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:  # it serves, and lets nobody in
                return
            time.sleep(0.1)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(said())


class Listener:
    """A WebSocket client that waits for the message it is asked for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def wait(self, kind: str, *, timeout_s: float = 30.0, **fields: Any) -> Any:
        """The data of the next message of this type whose data has these fields; others are passed over."""
        end = time.monotonic() + timeout_s
        seen: list[str] = []
        while (left := end - time.monotonic()) > 0:
            try:
                message = json.loads(self.connection.recv(timeout=left))
            except TimeoutError:
                break
            seen.append(str(message)[:200])
            data = message.get("data")
            if message["type"] == kind and all(data.get(name) == value for name, value in fields.items()):
                return data
        raise AssertionError(f"no {kind} {fields} within {timeout_s} s, only {seen}")

    def bar(self, time_ms: int, *, timeout_s: float = 30.0, **fields: Any) -> Any:
        """The data of the next update whose bar is that of `time_ms` and has these fields."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            data = self.wait("update", timeout_s=left)
            bar = data["bar"]
            if bar["time"] == time_ms and all(bar[name] == value for name, value in fields.items()):
                return data
        raise AssertionError(f"no update of {time_ms} with {fields}")


@contextmanager
def listen(address: str, path: str, **options: Any) -> Iterator[Listener]:
    """A client of the WebSocket at `path`."""
    with connect(f"ws://{address}{path}", open_timeout=30, max_size=2**24, **options) as connection:
        yield Listener(connection)
