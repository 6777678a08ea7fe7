"""The ledger: which trade ids of each stream are in its bars (law 1). Everything here runs in the bars' transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.feeds import Stream
from app.storage.arrays import literal
from app.storage.sql import sql

Ranges = Sequence[tuple[int, int]]  # [first, end) of ids, ascending, disjoint


def take(connection: sa.Connection, wanted: Mapping[Stream, Ranges]) -> dict[Stream, list[tuple[int, int]]]:
    """Enters the ids of streams that overlap nothing known, and locks all of them.

    Returns, for each stream that was NOT entered, the parts of its ids known already; the caller filters its trades
    and calls extend() with what is left, in the same transaction.
    """
    if not wanted:
        return {}
    taken = {row[0] for row in connection.execute(sql("ledger", "fast"), _arrays(wanted))}
    late = {stream: ranges for stream, ranges in wanted.items() if stream.instrument_id not in taken}
    known: dict[Stream, list[tuple[int, int]]] = {stream: [] for stream in late}
    if late:
        by_id = {stream.instrument_id: stream for stream in late}
        for instrument_id, first, end in connection.execute(sql("ledger", "known"), _arrays(late)):
            known[by_id[instrument_id]].append((first, end))
    return known


def extend(connection: sa.Connection, rest: Mapping[Stream, Ranges]) -> None:
    """Enters the ids that the filter kept, of streams that take() locked."""
    if rest:
        connection.execute(sql("ledger", "extend"), _arrays(rest))


def add(connection: sa.Connection, instrument_id: int, first: int, end: int) -> None:
    """Counts the ids [first, end) of a contiguous stream as in: a bar of the exchange holds them."""
    connection.execute(sql("ledger", "add"), {"instrument_id": instrument_id, "applied": f"{{[{first},{end})}}"})


def add_all(connection: sa.Connection, ranges: Mapping[int, Sequence[tuple[int, int]]]) -> None:
    """Counts the ids [first, end) of each instrument's contiguous stream as in, one row after the other by id."""
    for instrument_id in sorted(ranges):
        applied = ",".join(f"[{first},{end})" for first, end in ranges[instrument_id])
        connection.execute(sql("ledger", "add"), {"instrument_id": instrument_id, "applied": f"{{{applied}}}"})


def gaps(
    connection: sa.Connection, *, after: tuple[int, int] = (0, -1), limit: int = 1000
) -> list[tuple[int, int, int]]:
    """(instrument id, first, end) of each stretch of missing ids inside the contiguous streams, in this order.

    Only those behind `after` (instrument id, first), so that many calls see them all.
    """
    values = {"limit": limit, "instrument_id": after[0], "first": after[1]}
    return [(row[0], row[1], row[2]) for row in connection.execute(sql("ledger", "gaps"), values)]


def fragments(connection: sa.Connection) -> list[tuple[int, int, int]]:
    """(instrument id, run, pieces) of the streams that are in very many pieces."""
    return [(row[0], row[1], row[2]) for row in connection.execute(sql("ledger", "fragments"))]


def forget(connection: sa.Connection, *, limit: int) -> int:
    """Deletes at most `limit` ledgers of runs that are forgotten (app.storage.feeds.forget); returns how many it found.

    None of their batches was applied for a day, and one sent longer ago than app.services.ingest.OLDEST_S is applied no
    more: nothing comes again that they would have to know. No worker is waited for.
    """
    rows = connection.execute(sql("ledger", "over"), {"limit": limit}).all()
    if rows:
        instruments, runs = (literal(column) for column in zip(*rows, strict=True))
        connection.execute(sql("ledger", "forget"), {"instruments": instruments, "runs": runs})
    return len(rows)


def _arrays(streams: Mapping[Stream, Ranges]) -> dict[str, Any]:
    ordered = sorted(streams.items())
    return {
        "instrument_id": [stream.instrument_id for stream, _ in ordered],
        "run": [stream.run for stream, _ in ordered],
        "applied": ["{" + ",".join(f"[{first},{end})" for first, end in ranges) + "}" for _, ranges in ordered],
    }
