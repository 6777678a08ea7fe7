"""The services of docker-compose.yml with their exact commands, environments, users and health checks.

Not started are `timescaledb`, in whose place the tests' PostgreSQL stands, and `grafana`: neither comes without its
image. Redis, Caddy and Prometheus are this machine's, with our configuration.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from websockets.sync.client import connect

from app.cache import health
from app.config import ROOT
from app.local.postgres import PostgresServer
from tests import compose
from tests.containers import Machine
from tests.processes import until
from tests.sandbox import start_sandbox
from tests.tools import tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIVE = {"streamer-alpaca"}  # as in the file, without keys: it reaches for no exchange
SERVING = (
    "streamer-binance", "streamer-alpaca", "worker-trades", "worker", "worker-history", "worker-backfill", "beat",
    "web", "flower",
)  # fmt: skip


@pytest.fixture(scope="module")
def machine(postgres: PostgresServer) -> Iterator[Machine]:
    """Everything `docker compose up` starts by itself, begun in its order."""
    folder = Path(tempfile.mkdtemp(prefix="containers-", dir="/var/tmp"))
    folder.chmod(0o755)
    with start_sandbox(symbols="BTC/USDT,ETH/USDT", rate=20, history_hours=1) as market:
        found = Machine(folder, database_port=postgres.port, market_url=market.url)
        try:
            _make_database(postgres, (found.secrets / "postgres_password").read_text().strip())
            found.configure("redis.conf", {
                "/run/secrets/": f"{found.secrets}/", "bind * -::*": "bind 127.0.0.1",
                "port 6379": f"port {found.port['redis']}", "dir /data": f"dir {found.placed('/data', 'redis')}",
            })  # fmt: skip
            found.start("redis")
            found.wait_healthy("redis")
            found.start("migrate")
            assert found.running["migrate"].wait(180) == 0, found.said("migrate")
            del found.running["migrate"]
            behind = compose.load(ROOT / "docker" / "https.yml")["services"]["web"]["environment"]
            for name in SERVING:
                found.start(name, live=name in LIVE, **(behind if name == "web" else {}))
            yield found
        finally:
            found.end()
            shutil.rmtree(folder, ignore_errors=True)


def test_every_health_check_passes_once_its_process_is_at_work(machine: Machine) -> None:
    for name in SERVING:
        machine.wait_healthy(name, live=name in LIVE)
    names = set(health.read(redis.Redis.from_url((machine.secrets / "redis_url").read_text().strip())))
    assert set(SERVING) <= names, names


def test_a_bar_of_live_trades_arrives_over_the_published_port(machine: Machine) -> None:
    deadline = time.monotonic() + 180
    while not _has_live_bar(machine):
        assert time.monotonic() < deadline, "".join(machine.said(name) for name in ("worker-trades", "web"))
        time.sleep(0.5)
    ready = _get(machine, "/api/health/ready")
    assert ready["status"] == "ready"


def test_status_tells_each_process_once_and_that_a_key_is_missing(machine: Machine) -> None:
    answer = _get(machine, "/api/status")
    told = [row["name"] for row in answer["processes"]]
    assert sorted(set(told) - {"poller-yahoo"}) == sorted(SERVING) and len(told) == len(set(told))
    assert {row["state"] for row in answer["processes"]} == {"heard"}
    assert {row["name"]: row["facts"].get("pool") for row in answer["processes"]}["worker"] == 2
    streamer = next(row for row in answer["processes"] if row["name"] == "streamer-alpaca")
    assert streamer["facts"]["feed"] == "no_key"
    assert not [trouble for trouble in answer["troubles"] if "Alpaca" in trouble["what"]], answer["troubles"]


def test_the_web_tells_how_full_the_databases_disk_is(machine: Machine) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port['web']}/metrics", timeout=60) as answer:
        told = re.findall(r'^market_disk_free_bytes\{disk="(.+)"\} .', answer.read().decode(), re.MULTILINE)
    assert told == [str(machine.folder / "disks" / "database")]


def test_a_process_that_hangs_is_not_heard_of_and_is_again(machine: Machine) -> None:
    hung = machine.running["streamer-binance"]
    hung.send_signal(signal.SIGSTOP)
    try:
        until(lambda: machine.check("streamer-binance").returncode == 1, seconds=150, every=1.0)
        assert "has not been heard of for" in machine.check("streamer-binance").stderr
    finally:
        hung.send_signal(signal.SIGCONT)
    machine.wait_healthy("streamer-binance", seconds=150)


def test_no_secret_is_in_an_environment_or_a_log(machine: Machine) -> None:
    known = [path.read_text().strip() for path in machine.secrets.iterdir()]
    values = {part for text in known for part in re.findall(r"[0-9a-f]{40,}", text)}
    assert len(values) >= 5
    for name, process in machine.running.items():
        seen = Path(f"/proc/{process.pid}/environ").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        seen += (machine.folder / f"{name}.out").read_bytes()
        assert not [value for value in values if value.encode() in seen], name


def test_nothing_is_written_but_below_data_and_tmp(machine: Machine) -> None:
    assert not list(machine.tree.rglob("__pycache__")) and not list(machine.tree.rglob("*.log"))
    assert not list(machine.folder.glob("writable/*/data/logs"))


def test_the_proxy_serves_with_tls_and_keeps_the_inside_inside(machine: Machine) -> None:
    for name in ("caddy", "wget"):
        tool(name)
    ports = machine.port
    machine.configure("Caddyfile", {
        "http_port 8080": f"http_port {ports['http']}", "https_port 8443": f"https_port {ports['https']}",
        "127.0.0.1:8081": f"127.0.0.1:{ports['alive']}",
    })  # fmt: skip
    machine.start("caddy", UPSTREAM=f"127.0.0.1:{ports['web']}")
    try:
        machine.wait_healthy("caddy", seconds=150)
        deadline = time.monotonic() + 150
        while (page := _secure(machine, "/api/health/live"))[0] != 200:
            assert time.monotonic() < deadline and machine.running["caddy"].poll() is None, machine.said("caddy")
            time.sleep(0.3)
        assert page[1]["Server"] is None
        for header in ("Content-Security-Policy", "X-Frame-Options", "Strict-Transport-Security"):
            assert len(page[1].get_all(header) or []) == 1, header
        for path in ("/metrics", "/metrics/x"):
            assert _secure(machine, path)[0] == 404
        packed = _secure(machine, "/api/charts/BTC-USDT?exchange=binance&limit=500")
        assert packed[0] == 200 and packed[1].get_all("Content-Encoding") == ["gzip"]
        socket_url = f"wss://localhost:{ports['https']}/ws/BTC-USDT?exchange=binance&token=abc"
        with connect(socket_url, ssl=_any_certificate(), open_timeout=60) as socket:
            assert json.loads(socket.recv(timeout=60))["type"]
    finally:
        codes = machine.stop("caddy")
    assert codes == {"caddy": 0}, machine.said("caddy")
    assert "token=abc" not in (machine.folder / "caddy.out").read_text()


def test_prometheus_reads_its_configuration_and_scrapes_the_web(machine: Machine) -> None:
    for name in ("prometheus", "wget"):
        tool(name)
    machine.configure("monitoring/alerts.yml", {})
    places = {old: machine.placed(old, "prometheus") for old in ("web:8000", "localhost:9090", "/run/secrets/")}
    machine.configure("monitoring/prometheus.yml", {**places, "scrape_interval: 15s": "scrape_interval: 10s"})
    machine.start("prometheus")
    try:
        machine.wait_healthy("prometheus", seconds=150)
        until(lambda: {"web", "prometheus"} <= _scraped(machine), seconds=150, every=0.5)
        rules = _get(machine, "/api/v1/rules", service="prometheus")["data"]["groups"]
        assert [rule for group in rules for rule in group["rules"] if rule["name"] == "DatabaseAway"]
    finally:
        codes = machine.stop("prometheus")
    assert codes == {"prometheus": 0}, machine.said("prometheus")
    assert machine.check("prometheus").returncode != 0


def _scraped(machine: Machine) -> set[str]:
    """The jobs of which a target answers."""
    found = _get(machine, "/api/v1/targets", service="prometheus")["data"]["activeTargets"]
    return {target["labels"]["job"] for target in found if target["health"] == "up"}


def test_each_stops_in_time_by_its_signal_and_its_check_fails_then(machine: Machine) -> None:
    codes = machine.stop(*sorted(SERVING, key=lambda name: machine.services[name]["stop_grace_period"]))
    assert codes == dict.fromkeys(SERVING, 0), "".join(machine.said(name) for name, code in codes.items() if code)
    for name in SERVING:
        look = machine.check(name, live=name in LIVE)
        assert look.returncode == 1 and look.stderr.count("\n") == 1, look
        assert "Traceback" not in machine.said(name), machine.said(name)
    assert machine.stop("redis") == {"redis": 0} and machine.check("redis").returncode != 0


def _make_database(postgres: PostgresServer, password: str) -> None:
    """What the image of TimescaleDB makes by POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD_FILE."""
    connection = postgres.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS market WITH (FORCE)")
        cursor.execute("DROP ROLE IF EXISTS market")
        cursor.execute("CREATE ROLE market SUPERUSER LOGIN PASSWORD %s", (password,))
        cursor.execute("CREATE DATABASE market OWNER market")
    connection.close()


def _get(machine: Machine, path: str, *, service: str = "web") -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port[service]}{path}", timeout=60) as answer:
        return json.load(answer)


def _has_live_bar(machine: Machine) -> bool:
    try:
        bars = _get(machine, "/api/charts/BTC-USDT?exchange=binance&limit=2")["bars"]
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except (OSError, ValueError, KeyError):
        return False
    return bool(bars) and bars[-1]["origin"] == "trades" and bars[-1]["trade_count"] > 0


def _secure(machine: Machine, path: str) -> tuple[int, Any]:
    url = f"https://localhost:{machine.port['https']}{path}{'&' if '?' in path else '?'}token=abc"
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=_any_certificate()) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers
    except OSError:
        return 0, None


def _any_certificate() -> ssl.SSLContext:
    """Takes one of Caddy's own too."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
