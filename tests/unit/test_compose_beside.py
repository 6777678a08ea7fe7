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
    named: dict[tuple[str, str], set[str]] = {}
    for service, its in SERVICES.items():
        networks = its["networks"] if isinstance(its["networks"], dict) else dict.fromkeys(its["networks"])
        for network, options in networks.items():
            for name in (service, *(options or {}).get("aliases", [])):
                named.setdefault((network, name), set()).add(service)
    asked: dict[str, int] = {}
    for host, port in _targets():
        found = {
            service for network in SERVICES["prometheus"]["networks"] for service in named.get((network, host), ())
        }
        assert found, f"{host} is no service on a network of prometheus"
        asked |= dict.fromkeys(found, port)
    served = {
        name: int(service["environment"]["WEB_PORT" if name == "web" else "METRICS_PORT"])
        for name, service in SERVICES.items()
        if compose.is_ours(service) and (name == "web" or service["environment"]["METRICS_PORT"])
    }
    assert asked == served


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


def _targets() -> list[tuple[str, int]]:
    """(host, port) of all that Prometheus asks, itself apart."""
    found = []
    for job in yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["scrape_configs"]:
        for static in job.get("static_configs", []):
            found += [tuple(target.split(":")) for target in static["targets"]]
        for lookup in job.get("dns_sd_configs", []):
            found += [(name, lookup["port"]) for name in lookup["names"]]
    return [(host, int(port)) for host, port in found if host != "localhost"]
