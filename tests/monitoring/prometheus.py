"""A real Prometheus for a test, with our rules made quicker."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.local.servers import free_port
from tests.monitoring.rulebook import ALERTS, quicker
from tests.processes import until
from tests.tools import tool


@dataclass(frozen=True, slots=True)
class Prometheus:
    """It scrapes and judges each second."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        """The data of its answer."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """The alerts that fire, with the labels of each."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self.get("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def series(self, query: str) -> list[tuple[dict[str, str], float]]:
        """What a query finds now."""
        return [(row["metric"], float(row["value"][1])) for row in self.get("query", query=query)["result"]]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """One that scrapes these ports of the machine, each as the job of its name; ended on the way out."""
    folder.mkdir()
    (folder / "alerts.yml").write_text(quicker(ALERTS.read_text(encoding="utf-8")), encoding="utf-8")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    found = Prometheus(f"http://127.0.0.1:{free_port()}")
    command = [
        tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={found.url.removeprefix('http://')}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: _ready(found.url), seconds=60, what="Prometheus serves")
        yield found
    finally:
        process.terminate()
        process.wait(20)


def _ready(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True
