"""Faults on demand: what happens to the stream's trades on their way out, the same for the same seed.

disconnect   after `after` trades (or at exchange time `at_us`) every connection ends, `count` times; for
             `duration_s` nobody may connect again
silence      from then on connections stay open and say nothing, for `duration_s`, or until they are closed
duplicate    a trade is sent twice, with `probability`
reorder      a trade is held back behind up to `span` later ones, with `probability`
drop         a trade is never sent (history and truth have it), with `probability`
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from app.errors import BadInput
from app.sandbox.tape import Row

KINDS = ("disconnect", "silence", "duplicate", "reorder", "drop")
HELD_S = 0.5  # wall time a trade is held back at most


@dataclass(slots=True)
class Fault:
    """One fault that was asked for, and how far it has got."""

    kind: str
    after: int = 0
    at_us: int = 0
    count: int | None = None
    duration_s: float | None = None
    probability: float = 1.0
    seed: int = 0
    span: int = 5
    seen: int = 0
    fired: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if not 0 <= self.probability <= 1 or self.after < 0 or self.span < 1:
            raise BadInput("a fault needs probability 0 to 1, after >= 0, span >= 1")
        self.rng = random.Random(self.seed)
        if self.count is None and self.kind in ("disconnect", "silence"):
            self.count = 1

    def strikes(self, row: Row) -> bool:
        """Whether the fault happens at this trade; counts it."""
        self.seen += 1
        if (self.count is not None and self.fired >= self.count) or row.time_us < self.at_us:
            return False
        if self.kind in ("disconnect", "silence"):
            hit = self.seen >= self.after * (self.fired + 1)
        else:
            hit = self.seen > self.after and self.rng.random() < self.probability
        self.fired += hit
        return hit

    def describe(self) -> dict[str, Any]:
        """The fault as `GET /sandbox/faults` shows it."""
        names = ("kind", "after", "at_us", "count", "duration_s", "probability", "seed", "span", "seen", "fired")
        return {name: getattr(self, name) for name in names}


def parse_faults(spec: str) -> list[Fault]:
    """The faults of `--faults "duplicate:probability=0.1,seed=3;disconnect:after=500"`; raises BadInput."""
    faults = []
    for part in filter(None, (piece.strip() for piece in spec.split(";"))):
        kind, _, options = part.partition(":")
        pairs = (option.partition("=") for option in options.split(",") if option)
        faults.append(make_fault({"kind": kind.strip(), **{name.strip(): value.strip() for name, _, value in pairs}}))
    return faults


_TYPES: dict[str, Callable[[Any], Any]] = {
    "kind": str,
    "after": int,
    "at_us": int,
    "count": int,
    "duration_s": float,
    "probability": float,
    "seed": int,
    "span": int,
}


def make_fault(options: dict[str, Any]) -> Fault:
    """The fault of these options, numbers as text or not; raises BadInput."""
    unknown = set(options) - set(_TYPES)
    if unknown:
        raise BadInput(f"a fault has no {', '.join(sorted(unknown))}; it has {', '.join(_TYPES)}")
    try:
        return Fault(**{name: _TYPES[name](value) for name, value in options.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise BadInput(f"fault {options}: {error}") from error


class FaultBox:
    """The faults in force, between the market and its connections."""

    def __init__(self, faults: Iterable[Fault], *, wall_s: Callable[[], float]) -> None:
        self.faults = list(faults)
        self._wall_s = wall_s
        self._held: list[tuple[int, float, tuple[str, Row]]] = []
        self._passed = 0

    @property
    def idle(self) -> bool:
        """Whether trades pass untouched."""
        return not self.faults and not self._held

    def add(self, fault: Fault) -> None:
        """Put one more fault in force."""
        self.faults.append(fault)

    def clear(self) -> None:
        """End all faults; trades held back go out with the next tick."""
        self.faults.clear()

    def forget_held(self) -> None:
        """Lose the trades held back."""
        self._held.clear()

    def deliver(self, wire: str, row: Row) -> tuple[list[tuple[str, Row]], list[Fault]]:
        """What to send in place of `row` of symbol `wire`, and the connection faults that strike after it."""
        self._passed += 1
        out, strikes, copies = [(wire, row)], list[Fault](), 1
        for fault in self.faults:
            if not fault.strikes(row):
                continue
            if fault.kind == "drop":
                out = []
            elif fault.kind == "duplicate":
                copies += 1
            elif fault.kind == "reorder" and out:
                self._held.append((self._passed + fault.rng.randint(1, fault.span), self._wall_s(), (wire, row)))
                out = []
            else:
                strikes.append(fault)
        return out * copies + self._release(), strikes

    def overdue(self) -> list[tuple[str, Row]]:
        """The trades held back for too long."""
        latest = self._wall_s() - HELD_S if self.faults else float("inf")
        rows = [row for _, since, row in self._held if since <= latest]
        self._held = [held for held in self._held if held[1] > latest]
        return rows

    def _release(self) -> list[tuple[str, Row]]:
        if not self._held:
            return []
        rows = [row for due, _, row in self._held if due <= self._passed]
        self._held = [held for held in self._held if held[0] > self._passed]
        return rows
