"""The files of docker/monitoring as tests read them, and the one way in which they are made quicker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from app.config import ROOT

FOLDER = ROOT / "docker" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "market.json"
OURS = re.compile(r"\b(market_\w+|process_\w+)\b(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)")
_MATCHED = re.compile(r"(\w+) ?(?:=~|!~|!=|=)")
_SHOWN = re.compile(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}")
SAMPLES = ("_bucket", "_sum", "_count", "_total")


def rules() -> list[dict[str, Any]]:
    """Every alert rule."""
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def quicker(text: str) -> str:
    """The rules with a second for each minute: durations (`5m`), and thresholds that are times (`n * 60`)."""
    return re.sub(r"\* 60\b", "* 1", re.sub(r"\b(\d+)m\b", r"\1s", text))


@dataclass(frozen=True, slots=True)
class Used:
    """A query: where it stands, what it reads with the labels it picks that by, and the labels it groups by."""

    where: str
    samples: dict[str, set[str]]
    labels: set[str]


def used() -> Iterator[Used]:
    """Every query of rules and dashboard."""
    for rule in rules():
        told = " ".join(rule["annotations"].values())
        yield _used(rule["alert"], rule["expr"], told)
    for panel in panels():
        for target in panel.get("targets", ()):
            yield _used(panel["title"], target["expr"], target["legendFormat"])


def panels() -> list[dict[str, Any]]:
    """Every panel of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def _used(where: str, expr: str, told: str) -> Used:
    samples: dict[str, set[str]] = {}
    for name, picked in OURS.findall(expr):
        samples.setdefault(name, set()).update(_MATCHED.findall(picked))
    grouped = {label.strip() for part in _GROUPED.findall(expr) for label in part.split(",")}
    return Used(where, samples, grouped | (set(_SHOWN.findall(told)) - {"value"}))


def family(sample: str, kinds: dict[str, str]) -> str:
    """The family a sample belongs to, as exported: `…_bucket` to its histogram, a counter's is `…_total`."""
    for ending in SAMPLES[:3]:
        if kinds.get(sample.removesuffix(ending)) == "histogram":
            return sample.removesuffix(ending)
    return sample
