"""Feeds: each run's committed clock, from the contiguous prefix of its batch numbers (DESIGN.md section 6)."""

from __future__ import annotations

import json
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.trades import Mark
from app.storage.sql import sql


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


class Tally(NamedTuple):
    """What a run has brought so far, in trade rows; `over`: every batch of it is applied."""

    accepted: int
    known: int
    refused: int
    done: int
    over: bool
    ended: bool
    lo_ms: int
    hi_ms: int | None


class Skipped(NamedTuple):
    """Batch numbers of a run that never came: everything since its clock is in doubt."""

    run: int
    exchange: str
    kind: str
    first_n: int
    last_n: int
    clock_us: int | None


def open_run(connection: sa.Connection, mark: Mark) -> bool:
    """Enters the run, or what its batch says anew of it; True where that changed anything."""
    silent = mark.subscribed is None and not mark.over
    if silent and connection.execute(sql("feeds", "exists"), {"run": mark.run}).first():
        return False
    subscribed = None if mark.subscribed is None else json.dumps({str(i): since for i, since in mark.subscribed})
    values = {
        "run": mark.run, "exchange": mark.exchange, "kind": mark.kind, "shard": mark.shard, "since": mark.since_us,
        "subscribed": subscribed, "n": mark.n, "over": mark.over,
    }  # fmt: skip
    return connection.execute(sql("feeds", "open"), values).rowcount > 0


def subscribed(connection: sa.Connection, run: int) -> dict[int, int]:
    """What the run receives as far as is known: instrument id → exchange time (µs) since which."""
    found = connection.execute(sql("feeds", "subscribed"), {"run": run}).scalar()
    return {int(key): since for key, since in (found or {}).items()}


def record(
    connection: sa.Connection, mark: Mark, *, accepted: int, known: int, refused: int, hi_ms: int | None
) -> bool:
    """Notes the batch as applied; False where it had been already."""
    values = {
        "run": mark.run, "n": mark.n, "upto": mark.upto_us, "accepted": accepted, "known": known, "refused": refused,
        "hi": hi_ms,
    }  # fmt: skip
    return connection.execute(sql("feeds", "record"), values).rowcount > 0


def fold(connection: sa.Connection, *, wait_s: float) -> list[Skipped]:
    """Advances the clocks of all runs; returns the batches given up after `wait_s` without them.

    One folder at a time; where another is at it, nothing happens.
    """
    if not connection.execute(sql("feeds", "lock")).scalar():
        return []
    connection.execute(sql("feeds", "fold"))
    skipped = [Skipped(*row) for row in connection.execute(sql("feeds", "skip"), {"wait": wait_s})]
    if skipped:
        connection.execute(sql("feeds", "fold"))
    connection.execute(sql("feeds", "strays"))
    return skipped


def runs(connection: sa.Connection) -> list[Run]:
    """All runs that have not ended."""
    rows = connection.execute(sql("feeds", "live"))
    return [Run._make((*row[:6], {int(key): since for key, since in row[6].items()}, *row[7:])) for row in rows]


def tally(connection: sa.Connection, run: int) -> Tally | None:
    """What the run has brought, or None while no batch of it is applied."""
    row = connection.execute(sql("feeds", "one"), {"run": run}).first()
    if row is None:
        return None
    over = row.last_n is not None and row.done >= row.last_n
    return Tally(row[0], row[1], row[2], row[3], over, row.ended, row[6], row[7])


def end(connection: sa.Connection, run: int) -> None:
    """Marks the run as over."""
    connection.execute(sql("feeds", "end"), {"run": run})


def forget(connection: sa.Connection, *, silent_s: float) -> None:
    """Ends runs that have said nothing for long, and deletes those that ended a day ago."""
    connection.execute(sql("feeds", "end_silent"), {"wait": silent_s})
    connection.execute(sql("feeds", "forget"))
