"""Feeds as values: what the database says of a run."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """One numbered stream of trades: an instrument, and the run where the exchange does not number contiguously."""

    instrument_id: int
    run: int


class Run(NamedTuple):
    """One connection of a streamer, or one import; times in µs, `hi_ms` the newest minute an import brought."""

    run: int
    exchange: str
    kind: str
    shard: str
    since_us: int
    clock_us: int | None
    subscribed: dict[int, int]  # instrument id → exchange time (µs) since which it is received
    done: int
    last_n: int | None
    ended: bool
    hi_ms: int | None
    quiet_s: float


class Placed(NamedTuple):
    """A batch as the database knows it: its run, and (None once the clock has passed it) its own row; times in s."""

    exchange: str
    kind: str
    shard: str
    since_s: float
    clock_s: float | None
    done: int
    ended: bool
    last_n: int | None
    committed_s: float | None
    upto_s: float | None
    accepted: int | None
    known: int | None
    refused: int | None


class Skipped(NamedTuple):
    """Batch numbers of a run that never came: everything since its clock is in doubt."""

    run: int
    exchange: str
    kind: str
    first_n: int
    last_n: int
    clock_us: int | None
