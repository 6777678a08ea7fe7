"""docker-compose.yml and the Dockerfile as a test reads them: interpolated, and as commands to run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from app.config import ROOT

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z0-9_]+)(?::-(?P<default>[^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tags."""


_Loader.add_constructor("!reset", lambda loader, node: None)


def load(path: Path = COMPOSE, **variables: str) -> dict[str, Any]:
    """The file with `variables` in the place of ${…}, else their defaults."""
    loaded: dict[str, Any] = _interpolated(yaml.load(path.read_text(encoding="utf-8"), _Loader), variables)
    return loaded


def raw(path: Path = COMPOSE) -> dict[str, Any]:
    """The file as it stands."""
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return loaded


def variables(path: Path = COMPOSE) -> list[tuple[str, str]]:
    """(name, default) of each ${…} of the file, comments apart."""
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8"))
    return [(found["name"], found["default"] or "") for found in _VARIABLE.finditer(text) if found["name"]]


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether the service runs the platform's image."""
    return str(service["image"]).startswith("market-data-platform:")


def check_command(service: Mapping[str, Any]) -> list[str]:
    """The health check of a service as arguments."""
    kind, *words = service["healthcheck"]["test"]
    return ["/bin/sh", "-c", words[0]] if kind == "CMD-SHELL" else list(words)


def seconds(duration: str) -> float:
    """Compose's durations: 90s, 1m, 1m30s."""
    return sum(float(n) * {"s": 1, "m": 60, "h": 3600}[unit] for n, unit in re.findall(r"(\d+)([smh])", duration))


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _of(found, variables), value)
    return value


def _of(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found.group() == "$$":
        return "$"
    return variables.get(found["name"]) or found["default"] or ""


def instructions(path: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (name, rest), continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            found.append((name, rest.strip()))
    return found


def stages(path: Path = DOCKERFILE) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions(path):
        if name == "FROM":
            found[rest.split()[-1]] = []
        if found:
            list(found.values())[-1].append((name, rest))
    return found


def image_environment() -> dict[str, str]:
    """What ENV of the last stage sets."""
    last = list(stages().values())[-1]
    return dict(word.split("=", 1) for name, rest in last if name == "ENV" for word in rest.split())


def image_copies() -> list[tuple[str, str]]:
    """(source in the project, target below the work directory) of each COPY from the project into the last stage."""
    found = []
    for name, rest in list(stages().values())[-1]:
        if name == "COPY" and "--from=" not in rest:
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            found += [(source, target) for source in sources]
    return found


def exec_form(rest: str) -> list[str] | None:
    """The words of a CMD in exec form; None in shell form."""
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    return words if isinstance(words, list) else None
