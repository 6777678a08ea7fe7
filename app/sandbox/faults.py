"""Faults on demand: what goes wrong on the way out of the market, the same for the same seed.

On streams (option `door=stream`):

disconnect   after `after` trades (or at exchange time `at_us`) every connection ends, `count` times; for
             `duration_s` nobody may connect again
silence      from then on connections stay open and say nothing, for `duration_s`, or until they are closed
shutdown     the exchange announces its end and ends every connection `duration_s` later (Binance: serverShutdown)
duplicate    a trade is sent twice, with `probability`
reorder      a trade is held back behind up to `span` later ones, with `probability`
drop         a trade is never sent (history and truth have it), with `probability`
late         a trade is sent `duration_s` exchange seconds (90) after its time: its minute has closed by then
revise       a trade is sent with twice its size; history, truth and the exchange's bars have the right one
             (Yahoo: the newest minutes of an answer have half of their volume, the next answer all of it)
malformed    a frame nobody can read is sent before a trade, with `probability`
auth         a client's key is refused, `count` times (Alpaca)
skew         event times and the REST clock are off by `duration_s` from the market's; trades keep their times

On REST (option `door=rest`), by request, of paths that contain `path`: status (`status` 429, 418 or 5xx, with
`retry_after_s`), slow (answered after `duration_s` wall seconds), truncated (the connection ends in the middle of the
body), malformed (JSON that is none), refused (no answer at all), unauthorized (401 or 403).

Every fault: `exchange` (all), `probability`, `seed`, `after` (so many are let pass), `count` (at most so often), and
`at_us`, `until_us` (the exchange time in which it is in force). `fired` says how often it happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from app.errors import BadInput

BREAKS = ("disconnect", "silence", "shutdown")  # of connections: they strike at once where nothing is to wait for
STREAM_KINDS = (
    *BREAKS, "duplicate", "reorder", "drop", "late", "revise", "malformed", "auth", "skew",
)  # fmt: skip
REST_KINDS = ("status", "slow", "truncated", "malformed", "refused", "unauthorized")
KINDS = tuple(dict.fromkeys((*STREAM_KINDS, *REST_KINDS)))
EXCHANGES = ("binance", "alpaca", "yahoo")
DOORS = {"stream": STREAM_KINDS, "rest": REST_KINDS}
STATUSES = (418, 429, 500, 502, 503, 504)
FAR_US = 2**62


@dataclass(slots=True)
class Fault:
    """One fault that was asked for, and how far it has got."""

    kind: str
    exchange: str | None = None
    door: str | None = None
    path: str = ""
    after: int = 0
    at_us: int = 0
    until_us: int = 0
    count: int | None = None
    duration_s: float | None = None
    probability: float = 1.0
    seed: int = 0
    span: int = 5
    status: int | None = None
    retry_after_s: int | None = None
    seen: int = 0
    fired: int = 0
    rng: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        self.rng = random.Random(self.seed)
        if self.count is None and self.kind in BREAKS:
            self.count = 1

    @property
    def at_once(self) -> bool:
        """Whether it strikes without a trade to wait for."""
        return self.kind in BREAKS and not self.after and not self.at_us

    def concerns(self, exchange: str, door: str) -> bool:
        """Whether it may happen at this door of the exchange."""
        if door == "stream" and self.path:
            return False
        return self.kind in DOORS[door] and self.exchange in (None, exchange) and self.door in (None, door)

    def in_force(self, now_us: int) -> bool:
        """Whether the exchange's time is one in which it may happen."""
        return self.at_us <= now_us < (self.until_us or FAR_US)

    def strikes(self) -> bool:
        """Whether it happens at this trade or request; counts it."""
        self.seen += 1
        if self.count is not None and self.fired >= self.count:
            return False
        if self.kind in BREAKS:
            hit = self.seen >= self.after * (self.fired + 1)
        else:
            hit = self.seen > self.after and self.rng.random() < self.probability
        self.fired += hit
        return hit

    def describe(self) -> dict[str, Any]:
        """The fault as `GET /sandbox/faults` shows it."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "rng"}


def _check(fault: Fault) -> None:
    kinds = DOORS.get(fault.door, KINDS) if fault.door else KINDS
    if fault.kind not in kinds:
        raise BadInput(f"no fault {fault.kind!r}; there are {', '.join(kinds)}")
    if fault.exchange not in (None, *EXCHANGES) or fault.door not in (None, *DOORS):
        raise BadInput(f"a fault's exchange is one of {', '.join(EXCHANGES)}, its door stream or rest")
    if not 0 <= fault.probability <= 1 or fault.after < 0 or fault.span < 1:
        raise BadInput("a fault needs probability 0 to 1, after >= 0, span >= 1")
    if fault.status is not None and fault.status not in (STATUSES if fault.kind == "status" else (401, 403)):
        raise BadInput(f"status is one of {', '.join(map(str, STATUSES))}, or 401, 403 of unauthorized")
    if fault.duration_s is not None and fault.duration_s < 0 and fault.kind != "skew":
        raise BadInput("duration_s must not be negative")


_TYPES: dict[str, Callable[[Any], Any]] = {
    "kind": str,
    "exchange": str,
    "door": str,
    "path": str,
    "after": int,
    "at_us": int,
    "until_us": int,
    "count": int,
    "duration_s": float,
    "probability": float,
    "seed": int,
    "span": int,
    "status": int,
    "retry_after_s": int,
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


def parse_faults(spec: str) -> list[Fault]:
    """The faults of `--faults "duplicate:probability=0.1,seed=3;disconnect:after=500"`; raises BadInput."""
    faults = []
    for part in filter(None, (piece.strip() for piece in spec.split(";"))):
        kind, _, options = part.partition(":")
        pairs = (option.partition("=") for option in options.split(",") if option)
        faults.append(make_fault({"kind": kind.strip(), **{name.strip(): value.strip() for name, _, value in pairs}}))
    return faults
