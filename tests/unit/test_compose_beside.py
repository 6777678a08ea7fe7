"""What stands beside docker-compose.yml and has to agree with it: .env.example, Prometheus's targets, examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from app.config import ROOT, Settings
from tests import compose
from tests.tools import tool

SERVICES: dict[str, dict[str, Any]] = compose.load()["services"]
PROMETHEUS = ROOT / "docker" / "monitoring" / "prometheus.yml"
OPERATIONS = ROOT / "docs" / "operations.md"


def test_the_example_of_settings_has_what_compose_reads_with_the_defaults_it_has() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
    block = dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", text.split("# Only for docker compose", 1)[1], re.MULTILINE))
    for name, default in compose.variables():
        if name.lower() in Settings.model_fields:
            assert default in {"", shown[name]} or not shown[name], f"{name}={shown[name]} would change {default}"
        else:
            assert name in block, f"{name} is not in .env.example"
            assert block[name] == default, f"{name} is {default} by default"
    others = set(block) - {name for name, _ in compose.variables()}
    assert others == {"COMPOSE_FILE", "COMPOSE_PROFILES"}, "those that Compose itself reads"


def test_the_example_of_settings_shows_the_defaults() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = {name.lower(): value for name, value in re.findall(r"^#([A-Z0-9_]+)=(.*)$", text, re.MULTILINE)}
    assert shown.pop("metrics_dir") == ".data/metrics", "which follows from another default"
    for name in shown.keys() & Settings.model_fields.keys():
        taken = getattr(Settings(_env_file=None, **{name: shown[name]}), name)  # type: ignore[call-arg,arg-type]
        assert taken == Settings.model_fields[name].default, name


def test_prometheus_asks_every_service_that_serves_metrics_and_no_other() -> None:
    by_address = {name: port for host, port in _targets("dns_sd_configs") for name in _services(host)}
    by_name = {name: port for host, port in _targets("static_configs") for name in _services(host)}
    assert by_address | by_name == _served()


def test_prometheus_misses_a_service_of_which_no_container_is_left() -> None:
    """Who is stopped has no address: only what is asked by a name, and one of that service alone, is found down."""
    hosts = [host for host, _ in _targets("static_configs")]
    alone = [service for host in hosts if len(found := _services(host)) == 1 for service in found]
    assert sorted(alone) == sorted(_served())


def test_what_is_asked_twice_is_counted_once() -> None:
    twice = {name for host, _ in _targets("dns_sd_configs") for name in _services(host)}
    for job in _jobs():
        drops = job.get("metric_relabel_configs", [])
        for static in job.get("static_configs", []):
            for target in static["targets"]:
                dropped = [drop["action"] for drop in drops if re.fullmatch(drop["regex"], target)]
                assert dropped == (["drop"] if _services(target.split(":")[0]) & twice else []), target
        for address in ("172.18.0.5:9100", "[fd00::5]:9100"):
            assert not any(re.fullmatch(drop["regex"], address) for drop in drops)
        assert all(drop["source_labels"] == ["instance"] for drop in drops)


def test_the_example_of_an_alertmanager_is_valid_and_reached_by_prometheus(tmp_path: Path) -> None:
    part = OPERATIONS.read_text(encoding="utf-8").split("\n## Alerts\n", 1)[1].split("\n### ", 1)[0]
    (override,) = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)
    (script,) = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    over = yaml.safe_load(override)
    folder = tmp_path / "docker" / "monitoring"
    folder.mkdir(parents=True)
    for path in PROMETHEUS.parent.glob("*.yml"):
        (folder / path.name).write_bytes(path.read_bytes())
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, timeout=30)
    source, target, mode = over["services"]["prometheus"]["volumes"][0].split(":")
    assert (target, mode) == ("/etc/prometheus/prometheus.yml", "ro") and source.startswith("./docker/own/")
    own = yaml.safe_load((tmp_path / source).read_text(encoding="utf-8"))
    (address,) = own.pop("alerting")["alertmanagers"][0]["static_configs"][0]["targets"]
    assert own == yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8")), "a section more, and nothing else"
    host, port = address.split(":")
    assert port == "9093" and set(over["services"][host]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert over["services"][host]["profiles"] == SERVICES["prometheus"]["profiles"]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"docker/own/", "docker-compose.override.yml"} <= set(ignored)
    whole = tmp_path / "override.json"
    whole.write_text(json.dumps(over), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(whole)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    checked = (tmp_path / source).read_text(encoding="utf-8").replace("- alerts.yml", f"- {folder}/alerts.yml")
    (folder / "prometheus.yml").write_text(checked, encoding="utf-8")
    command = [tool("promtool"), "check", "config", "--syntax-only", str(folder / "prometheus.yml")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def _jobs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["scrape_configs"]
    return found


def _targets(kind: str) -> list[tuple[str, int]]:
    """(host, port) of all that Prometheus asks in one of its ways, itself apart."""
    found: list[tuple[str, str]] = []
    for job in _jobs():
        for way in job.get(kind, []):
            found += [tuple(target.split(":")) for target in way.get("targets", [])]
            found += [(name, way["port"]) for name in way.get("names", [])]
    return [(host, int(port)) for host, port in found if host != "localhost"]


def _services(host: str) -> set[str]:
    """The services that answer to a name on the networks of prometheus."""
    found = set()
    for service, its in SERVICES.items():
        networks = its["networks"] if isinstance(its["networks"], dict) else dict.fromkeys(its["networks"])
        for network in networks.keys() & set(SERVICES["prometheus"]["networks"]):
            if host in (service, *(networks[network] or {}).get("aliases", [])):
                found.add(service)
    assert found or host == "localhost", f"{host} is no service on a network of prometheus"
    return found


def _served() -> dict[str, int]:
    """Service → port at which its metrics are."""
    return {
        name: int(service["environment"]["WEB_PORT" if name == "web" else "METRICS_PORT"])
        for name, service in SERVICES.items()
        if compose.is_ours(service) and (name == "web" or service["environment"]["METRICS_PORT"])
    }
