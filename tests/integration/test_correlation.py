"""The platform's processes with LOG_FORMAT=json: every line parses, a batch is followed from socket to browser."""

from __future__ import annotations

import base64
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from websockets.sync.client import connect

from app.config import ROOT, Settings
from app.local.servers import free_port
from tests.processes import Processes, processes, until
from tests.sandbox import start_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD, TOKEN, JWT_SECRET = "flower-pass-word-1", "api-token-0123456789", "jwt-secret-0123456789-0123456789-0123"
ALPACA = "alpaca-secret-key-123"


@dataclass(frozen=True, slots=True)
class World:
    """Streamer, workers, beat, web and Flower at work on a simulated market."""

    running: Processes
    web: str
    flower: str
    settings: Settings

    @property
    def secrets(self) -> list[str]:
        urls = (self.settings.redis_url, self.settings.database_url)
        return [PASSWORD, TOKEN, JWT_SECRET, ALPACA, *(urlsplit(url).password or "-" * 9 for url in urls)]

    @property
    def logs(self) -> list[Path]:
        return [*self.settings.log_dir.glob("*.log"), *self.settings.data_dir.glob("*.out")]


@pytest.fixture(scope="module")
def world(settings: Settings) -> Iterator[World]:
    web, flower = free_port(), free_port()
    secrets = {"FLOWER_PASSWORD": PASSWORD, "API_TOKEN": TOKEN, "JWT_SECRET": JWT_SECRET, "ALPACA_SECRET_KEY": ALPACA}
    redis.Redis.from_url(settings.redis_url).flushdb()
    with (
        start_sandbox(rate=20) as market,
        processes(
            settings.model_copy(update={"binance_api_url": market.url, "binance_stream_url": market.stream_url}),
            LOG_FORMAT="json", LOG_LEVEL="DEBUG", WEB_PORT=web, **secrets,
        ) as running,
    ):  # fmt: skip
        celery = ("-m", "celery", "-A", "celery_config")
        for name, queues in (("worker-trades", "trades.0"), ("worker-bars", "bars,indicators,upkeep,polling")):
            running.environment["PROCESS_NAME"] = name
            running.start(name, *celery, "worker", "-Q", queues, "-c", "1", "-n", f"{name}@%h", "-E")
        running.environment["PROCESS_NAME"] = "beat"
        running.start("beat", *celery, "beat", "-s", str(settings.data_dir / "beat"), "--pidfile=")
        running.environment["PROCESS_NAME"] = "flower"
        conf = f"--conf={ROOT / 'app' / 'local' / 'flower_conf.py'}"
        running.start("flower", *celery, "flower", "--address=127.0.0.1", f"--port={flower}", "--max_tasks=5000", conf)
        running.environment["PROCESS_NAME"] = "web"
        running.start("web", "-m", "gunicorn", "-c", "webapp/gunicorn_conf.py", "webapp:create_app()")
        running.environment["PROCESS_NAME"] = ""
        running.start("streamer-binance", "-m", "streamers", "binance")
        made = World(running, f"127.0.0.1:{web}", f"http://127.0.0.1:{flower}", settings)
        until(lambda: _get(f"http://{made.web}/api/health/live")[0] == 200, seconds=90, what=running.said)
        until(lambda: _get(f"{made.flower}/healthcheck")[0] == 200, seconds=90, what=running.said)
        yield made


def test_a_batch_is_followed_from_the_socket_to_the_browser(world: World) -> None:
    with connect(f"ws://{world.web}/ws/BTC-USDT?exchange=binance&timeframe=5m") as ws:
        batch = until(lambda: _batch_of(json.loads(ws.recv(timeout=60))), seconds=90, every=0.0)
    lines = until(
        lambda: (found := _about(world, batch)) and {"streamer-binance", "worker-trades-0"} <= found.keys() and found,
    )  # fmt: skip
    assert "batch sent" in {line["message"] for line in lines["streamer-binance"]}
    committed = next(line for line in lines["worker-trades-0"] if line["message"] == "batch committed")
    assert committed["task"] == "tasks.bars.ingest" and len(committed["task_id"]) == 36
    traced = world.running.cli("trace", batch, "--json")
    facts = json.loads(traced.stdout)
    assert (traced.returncode, facts["state"], facts["sent_by"]) == (0, "committed", "streamer-binance"), facts
    assert "BTC/USDT" in facts["symbols"] and facts["sent"] <= facts["committed"] and facts["trades"] >= 1
    assert "committed" in world.running.cli("trace", batch).stdout
    unknown = world.running.cli("trace", "1-1")
    assert (unknown.returncode, "unknown" in unknown.stdout) == (1, True)
    assert world.running.cli("trace", "no-batch").returncode == 2


def test_flower_asks_for_its_password_and_shows_tasks_that_people_can_read(world: World) -> None:
    for who in ("", "admin:wrong-password", f"other:{PASSWORD}"):
        assert _get(f"{world.flower}/api/tasks", who)[0] == 401
        assert _get(f"{world.flower}/tasks", who)[0] == 401
    login = f"admin:{PASSWORD}"

    def tasks() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for task in json.loads(_get(f"{world.flower}/api/tasks?limit=2000", login)[1]).values():
            found.setdefault(task["name"], []).append(task)
        return found

    wanted = {"tasks.bars.ingest", "tasks.bars.official", "tasks.bars.close_due", "tasks.indicators.derive"}
    shown = until(
        lambda: wanted <= (found := tasks()).keys() and any("BTC/USDT" in t["args"] for t in found["tasks.bars.ingest"])
        and found, seconds=180, every=1.0, what=world.running.said,
    )  # fmt: skip
    done = [task for task in shown["tasks.bars.ingest"] if task["state"] == "SUCCESS" and "BTC/USDT" in task["args"]]
    assert done and done[0]["args"].startswith("batch ") and "(binance" in done[0]["args"]
    heard = [task for task in done if task["sent"]]  # not before Flower listened
    assert {task["routing_key"] for task in heard} == {"trades.0"}
    assert all(task["args"] == "shard 0" for task in shown["tasks.indicators.derive"])
    assert any("of the exchange's own of " in task["args"] for task in shown["tasks.bars.official"])
    for task in (task for group in shown.values() for task in group):
        assert "b'" not in f"{task['args']}{task['kwargs']}" and "\\x" not in f"{task['args']}{task['kwargs']}", task
    for place in ("api/workers?refresh=1", "workers", "broker", f"worker/worker-trades@{socket.gethostname()}"):
        status, text = _get(f"{world.flower}/{place}", login)
        assert status == 200 and not any(secret in text for secret in world.secrets), place
    heads = _get(f"{world.flower}/tasks", login)[1]
    assert 'data-column="args"' in heads and 'data-column="routing_key"' in heads, "seen without opening a task"
    page = _get(f"{world.flower}/task/{done[0]['uuid']}", login)[1]
    assert "tasks.bars.ingest" in page and "trades.0" in page and "BTC/USDT" in page


def test_requests_are_known_by_their_id(world: World) -> None:
    request = urllib.request.Request(f"http://{world.web}/api/charts/NO-SUCH?token={TOKEN}")
    request.add_header("X-Request-ID", "chosen-by-a-client")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    name = refused.value.headers["X-Request-ID"]
    assert json.load(refused.value)["error"]["request_id"] == name != "chosen-by-a-client"
    log = world.settings.log_dir / "web.log"
    line = until(lambda: [line for line in _lines(log) if line.get("request_id") == name])
    assert (line[-1]["route"], line[-1]["status"], line[-1]["method"]) == ("/api/charts/<path:symbol>", 404, "GET")


def test_no_process_has_a_secret_among_its_arguments(world: World) -> None:
    for process in world.running.running.values():
        started = psutil.Process(process.pid)
        for each in (started, *started.children(recursive=True)):
            shown = " ".join(each.cmdline())
            assert not any(secret in shown for secret in world.secrets), shown


def test_every_line_is_json_and_none_has_a_secret(world: World) -> None:
    for name in list(world.running.running):  # the ends of processes are lines, too
        world.running.running[name].terminate()
    for process in world.running.running.values():
        process.wait(60)
    paths = {path.name: path for path in world.logs}
    assert {"worker-trades.log", "worker-trades-0.log", "beat.log", "web.log", "streamer-binance.log"} <= paths.keys()
    assert {"worker-trades.out", "beat.out", "web.out", "flower.out", "streamer-binance.out"} <= paths.keys()
    assert paths["flower.log"].stat().st_size > 0
    for path in paths.values():
        for line in _lines(path):
            assert {"time", "level", "logger", "message", "process", "pid"} <= line.keys(), (path.name, line)
            assert line["time"].endswith("Z") and line["time"][10] == "T"
    assert any("Warm shutdown" in line["message"] for line in _lines(paths["worker-trades.out"]))
    text = "".join(path.read_text() for path in paths.values())
    assert not any(secret in text for secret in world.secrets)


def _batch_of(message: dict[str, Any]) -> str | None:
    if message["type"] != "update":
        return None
    found: str | None = message["data"]["batch"]
    return found


def _about(world: World, batch: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in world.settings.log_dir.glob("*.log"):
        for line in _lines(path):
            if line.get("batch") == batch:
                found.setdefault(path.stem, []).append(line)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    text = path.read_text()
    for line in text[: text.rfind("\n") + 1].splitlines():  # the last one may be half written
        try:
            found.append(json.loads(line))
        except ValueError:
            raise AssertionError(f"{path.name}: no JSON: {line[:300]!r}") from None
    return found


def _get(url: str, login: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
