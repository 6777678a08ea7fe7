"""A Binance for backfills: klines that follow from their time, every answer noted; a process's own thread serves it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

STEPS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}


def row(time_ms: int, step_ms: int) -> list[Any]:
    """The kline that starts then."""
    place = time_ms // 60_000
    open_, close, count = 30_000 + place % 997, 30_000 + place % 991, 1 + place % 50
    sums = [f"{number}.{place % 10**8:08d}" for number in (count, count * 30_000, count // 2)]
    prices = [f"{price}.00000000" for price in (open_, max(open_, close) + 5, min(open_, close) - 5, close)]
    return [time_ms, *prices, sums[0], time_ms + step_ms - 1, sums[1], count, sums[2], "0.00000000", "0"]


@dataclass
class Klines:
    """What the server has, does and has done."""

    now_ms: int
    delay_s: float = 0.0
    allowance: int = 10**9  # so many pages, then it refuses for `rest_s` and allows all
    rest_s: int = 4
    pages: list[tuple[str, int, int]] = field(default_factory=list)  # (symbol, first, last) ms of what was answered
    refused: int = 0
    url: str = ""
    _until: float = 0.0

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        """(status, body, headers)."""
        if path == "/sandbox/clock":
            return 200, {"exchange_us": self.now_ms * 1000, "wall_us": time.time_ns() // 1000, "speed": 0.0}, {}
        if path == "/api/v3/time":
            return 200, {"serverTime": self.now_ms}, {}
        if path != "/api/v3/klines":
            return 404, {"code": -1, "msg": f"no {path}"}, {}
        if len(self.pages) >= self.allowance:
            self.allowance, self._until = 10**9, time.monotonic() + self.rest_s
        if time.monotonic() < self._until:
            self.refused += 1
            return 429, {"code": -1003, "msg": "Too many requests."}, {"Retry-After": str(self.rest_s)}
        time.sleep(self.delay_s)
        step, start, end = STEPS[query["interval"]], int(query["startTime"]), int(query["endTime"])
        times = range(-(-start // step) * step, min(end, self.now_ms) + 1, step)[: int(query["limit"])]
        if len(times):
            self.pages.append((query["symbol"], times[0], times[-1]))
        return 200, [row(time_ms, step) for time_ms in times], {}


@contextmanager
def klines_server(facts: Klines) -> Iterator[Klines]:
    """The server on a free port; `facts.url` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, body, headers = facts.answer(url.path, query)
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed in the middle is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    facts.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield facts
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
