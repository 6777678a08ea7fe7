"""Feeds: each run's committed clock, from the contiguous prefix of its batch numbers (DESIGN.md section 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from app.domain.feeds import Placed, Run, Skipped
from app.domain.trades import Mark
from app.storage.sql import sql


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


def runs(connection: sa.Connection, *, also: Sequence[int] = ()) -> list[Run]:
    """All runs that have not ended, and those of `also`."""
    rows = connection.execute(sql("feeds", "live"), {"also": list(also)})
    return [Run._make((*row[:6], {int(key): since for key, since in row[6].items()}, *row[7:])) for row in rows]


def placed(connection: sa.Connection, run: int, n: int) -> Placed | None:
    """Where batch `n` of the run stands; None for a run that nobody knows, or that ended over a day ago."""
    row = connection.execute(sql("feeds", "trace"), {"run": run, "n": n}).first()
    return None if row is None else Placed(*row)


def end(connection: sa.Connection, run: int) -> None:
    """Marks the run as over."""
    connection.execute(sql("feeds", "end"), {"run": run})


def forget(connection: sa.Connection, *, silent_s: float) -> None:
    """Ends runs that have said nothing for long, and deletes those that ended a day ago."""
    connection.execute(sql("feeds", "end_silent"), {"wait": silent_s})
    connection.execute(sql("feeds", "forget"))
    connection.execute(sql("feeds", "forget_batches"))
