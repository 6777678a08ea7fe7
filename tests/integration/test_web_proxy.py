"""Web instances behind a proxy: one address, shared limits, and a killed one leaves no hole in a chart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
import redis
import sqlalchemy as sa

from app.cache import health, keys, pubsub
from app.config import Settings
from app.domain.bars import State
from app.domain.timeframes import MINUTE_MS
from app.local.servers import free_port
from app.storage import catalog
from tests.integration.web_data import START_MS, bar, store, update, wipe
from tests.integration.web_server import listen, web_server
from tests.processes import until
from tests.tools import tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

READS = 40


@contextmanager
def proxy(folder: Path, instances: list[str]) -> Iterator[str]:
    """Caddy on a free port, in turn to each instance; one that does not answer is left out for a second."""
    port = free_port()
    file = folder / "Caddyfile"
    file.write_text(
        "{\n admin off\n auto_https off\n}\n"
        f"http://127.0.0.1:{port} {{\n bind 127.0.0.1\n reverse_proxy {' '.join(instances)} {{\n"
        "  lb_policy round_robin\n  lb_try_duration 2s\n  fail_duration 1s\n  max_fails 1\n }\n}\n"
    )
    process = subprocess.Popen(
        [tool("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"],
        env={**os.environ, "HOME": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def instances(settings: Settings) -> Iterator[list[str]]:
    limits = {"TRUSTED_PROXIES": 1, "RATE_LIMIT_READS": f"{READS}/minute", "WS_COALESCE_MS": 50}
    with ExitStack() as stack:
        two = [stack.enter_context(web_server(settings, **limits)), ""]
        # The second one has two processes on its port.
        two[1] = stack.enter_context(web_server(settings, WEB_WORKERS=2, **limits))
        yield two


@pytest.fixture(scope="module")
def address(instances: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy(tmp_path_factory.mktemp("caddy"), instances) as found:
        yield found


@pytest.fixture
def btc(engine: sa.Engine, redis_client: redis.Redis) -> int:
    wipe(engine)
    with engine.connect() as connection:
        found = catalog.find(connection, "BTC/USDT", "binance").id
    store(engine, [bar(found, START_MS + i * MINUTE_MS, price=100.0 + i) for i in range(5)])
    return found


def status(address: str, path: str, *, source: str = "127.0.0.1", **headers: str) -> int:
    """The answer's status, asked from this address of loopback."""
    connection = HTTPConnection(address, timeout=30, source_address=(source, 0))
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def pid_on(address: str) -> int:
    """The gunicorn master that listens there."""
    port = int(address.rpartition(":")[2])
    for process in psutil.process_iter():
        try:
            if f"WEB_PORT={port}" in {f"{k}={v}" for k, v in process.environ().items()} and "gunicorn" in " ".join(
                process.cmdline()
            ):
                return process.pid
        except psutil.Error:
            continue  # gone, or another user's
    raise AssertionError(f"nobody on {address}")


def test_one_limit_for_each_address_whichever_instance_it_reaches(address: str, btc: int) -> None:
    path = "/api/charts/BTC-USDT?exchange=binance&limit=3"
    answers = Counter(status(address, path) for _ in range(READS + 10))
    assert answers == {200: READS, 429: 10}
    assert status(address, path, source="127.0.0.2") == 200, "another address has a limit of its own"
    # The proxy is believed, and nobody before it.
    assert status(address, path, **{"X-Forwarded-For": "203.0.113.9"}) == 429


def test_each_of_several_beats_for_itself_and_its_successor_after_it(
    settings: Settings, redis_client: redis.Redis
) -> None:
    def pids() -> dict[str, int]:
        return {name: beat["pid"] for name, beat in health.read(redis_client).items() if name.endswith("@beats")}

    names = {"web.1@beats", "web.2@beats"}
    health.beat(redis_client, "web@beats", {"pid": 1})  # of one alone that was killed
    with web_server(settings, WEB_WORKERS=2, PROCESS_INSTANCE="beats"):
        until(lambda: set(pids()) == names, what="both are heard of")
        before = pids()
        os.kill(before["web.1@beats"], signal.SIGKILL)
        until(lambda: pids()["web.1@beats"] != before["web.1@beats"], seconds=90, what="its successor is heard of")
        after = pids()
        assert set(after) == names and after["web.2@beats"] == before["web.2@beats"]
    assert not pids(), "taken back"


def test_etags_agree_between_instances(instances: list[str], btc: int, redis_client: redis.Redis) -> None:
    tags = set()
    for instance in [*instances, instances[1], instances[1]]:
        url = f"http://{instance}/api/charts/BTC-USDT?exchange=binance&timeframe=1m&limit=1000"
        with urllib.request.urlopen(url, timeout=30) as answer:
            tags.add(answer.headers["ETag"])
    assert len(tags) == 1 and None not in tags
    request = urllib.request.Request(url, headers={"If-None-Match": tags.pop()})
    with pytest.raises(urllib.error.HTTPError) as same:
        urllib.request.urlopen(request, timeout=60)
    assert same.value.code == 304
    same.value.close()


def test_a_killed_instance_leaves_no_hole(
    address: str, instances: list[str], btc: int, engine: sa.Engine, redis_client: redis.Redis
) -> None:
    def grow(minute: int) -> None:
        """As a worker does: stored first, then told."""
        new = bar(btc, START_MS + minute * MINUTE_MS, price=100.0 + minute, state=State.OPEN)
        store(engine, [new])
        pubsub.publish(
            redis_client, keys.CHART_UPDATES, {**update("BTC/USDT", btc, {"1m": [new]}), "exchange": "binance"}
        )

    seen: dict[int, float] = {}
    path = "/ws/BTC-USDT?exchange=binance&timeframe=1m&indicators=none"
    with listen(address, path) as client:
        first = client.wait("initial")
        seen |= {row["time"]: row["close"] for row in first["bars"]}
        grow(5)
        seen[START_MS + 5 * MINUTE_MS] = client.bar(START_MS + 5 * MINUTE_MS)["bar"]["close"]
        # Kill the one that has this client; the first one has one process, which knows.
        with urllib.request.urlopen(f"http://{instances[0]}/api/health", timeout=30) as answer:
            mine = instances[0] if json.load(answer)["live"]["clients"] else instances[1]
        master = psutil.Process(pid_on(mine))
        for process in [*master.children(recursive=True), master]:
            process.send_signal(signal.SIGKILL)
        with pytest.raises(Exception, match=r"close|reset|received|eof|EOF"):
            while True:
                json.loads(client.connection.recv(timeout=60))
    grow(6)
    grow(7)
    last = max(seen)
    with listen(address, f"{path}&since={last}") as client:
        again = client.wait("initial")
        seen |= {row["time"]: row["close"] for row in again["bars"]}
        grow(8)
        seen[START_MS + 8 * MINUTE_MS] = client.bar(START_MS + 8 * MINUTE_MS)["bar"]["close"]
    assert sorted(seen) == [START_MS + i * MINUTE_MS for i in range(9)]
