"""The cases: each calls a function of app/storage and answers what both databases must agree on."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import app.storage

Body = Callable[[Any], Any]
Changed = Mapping[str, tuple[int, int]]  # table → (rows that went, rows that came); a changed row is both


@dataclass(frozen=True, slots=True)
class Case:
    """A use of functions of app/storage, and which rows it changes."""

    name: str
    body: Body
    covers: tuple[Callable[..., Any], ...]
    changed: Changed = field(default_factory=dict)
    by_engine: bool = False  # the body takes the engine: it makes transactions of its own


CASES: dict[str, Case] = {}


def case(
    *covers: Callable[..., Any],
    by_engine: bool = False,
    changed: Changed | None = None,
    **tables: tuple[int, int],
) -> Callable[[Body], Body]:
    """Registers a body under its module's and its own name; what it changes as table=(rows gone, rows come)."""

    def register(body: Body) -> Body:
        name = f"{body.__module__.rpartition('.')[2]}.{body.__name__}"
        assert name not in CASES, f"two cases are called {name}"
        CASES[name] = Case(name, body, covers, {**(changed or {}), **tables}, by_engine)
        return body

    return register


def public_functions() -> dict[str, Callable[..., Any]]:
    """`module.function` of everything in app/storage that asks a database: it takes a connection or an engine."""
    found: dict[str, Callable[..., Any]] = {}
    for info in pkgutil.iter_modules(app.storage.__path__):
        module = importlib.import_module(f"app.storage.{info.name}")
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_")
            if own and inspect.isfunction(thing) and _asks(thing):
                found[f"{info.name}.{name}"] = thing
            elif own and inspect.isclass(thing) and _asks(thing.__init__):
                methods = inspect.getmembers(thing, inspect.isfunction)
                found |= {f"{info.name}.{name}.{each}": method for each, method in methods if not each.startswith("_")}
    return found


def blocks() -> list[tuple[str, str]]:
    """(file, name) of all statements but those that only ask or change which of the two databases it is."""
    found = []
    for file in sorted(resources.files("app.storage.sql").iterdir(), key=lambda each: each.name):
        stem, _, kind = file.name.rpartition(".")
        if kind == "sql" and stem not in ("inventory", "timescale"):
            names = re.findall(r"^-- name: (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            found += [(stem, name) for name in names]
    return found


def _asks(function: Callable[..., Any]) -> bool:
    notes = {name: note for name, note in inspect.get_annotations(function).items() if name != "return"}
    return any(str(note) in ("sa.Connection", "sa.Engine") for note in notes.values())


def hours(seconds: float) -> int:
    """An age in whole hours, in which the two databases agree."""
    return math.floor(seconds / 3600)


def hours_ago(time_ms: float | None) -> int | None:
    """A wall-clock time as an age."""
    return None if time_ms is None else hours(time.time() - time_ms / 1000)
