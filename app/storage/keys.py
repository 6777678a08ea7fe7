"""Keys and stretches of bars as the parameters of statements that leave most of a hypertable alone.

Only constants tell TimescaleDB at planning which chunks matter, and which batches of a compressed one it has to unpack
before it changes their rows: `instrument_id = ANY(:instruments)` and the bounds [lo, hi). Keys that lie far apart are
therefore handed over day by day. Plain PostgreSQL goes by the key and does not mind.

An UPDATE or DELETE unpacks before anything else of its statement is read: what is to be changed is found by a statement
before it, which would find nothing any more, and each statement changes one hypertable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS
from app.storage.arrays import literal
from app.storage.sql import timed

_LOCK = re.compile(r" FOR UPDATE OF \w( SKIP LOCKED)?")
Key = tuple[int, int]  # instrument id, start (ms)


def by_day(keys: Iterable[Key]) -> Iterator[dict[str, Any]]:
    """The parameters of one statement a UTC day: the keys, sorted, and the constants they lie within."""
    for _, day in groupby(sorted(keys, key=lambda key: (key[1] // DAY_MS, key)), key=lambda key: key[1] // DAY_MS):
        yield within(list(day))


def within(keys: Sequence[Key]) -> dict[str, Any]:
    """The parameters of one statement for all the keys."""
    times = [time_ms for _, time_ms in keys]
    return {
        "instrument_id": literal(instrument_id for instrument_id, _ in keys), "time": literal(times),
        "instruments": literal(sorted({instrument_id for instrument_id, _ in keys})),
        "lo": min(times), "hi": max(times) + 1,
    }  # fmt: skip


def near(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """The spans in groups, those of a group so near to each other that one statement reads little beside them."""
    group: list[Span] = []
    for span in sorted(spans, key=lambda span: span.lo_ms):
        both = [*group, span]
        width_ms = max(each.hi_ms for each in both) - both[0].lo_ms
        if group and width_ms > DAY_MS + 2 * max(each.hi_ms - each.lo_ms for each in both):
            yield group
            both = [span]
        group = both
    if group:
        yield group


def locked(
    connection: sa.Connection, statement: sa.TextClause, values: dict[str, Any]
) -> Sequence[Sequence[Any]] | None:
    """What a statement gives that sets the savepoint `before_lock` and locks rows.

    None where it came upon compressed rows, of which TimescaleDB locks none; the transaction goes on as it was before.
    The savepoint is left to its end, so that the rows are changed by the very subtransaction that locked them.
    """
    try:
        return connection.execute(statement, values).all()
    except sa.exc.NotSupportedError:
        connection.execute(sa.text("ROLLBACK TO SAVEPOINT before_lock"))
        return None


@cache
def unlocked(statement: sa.TextClause) -> sa.TextClause:
    """The statement without its locks: what changes the rows it finds has to lock them."""
    text, count = _LOCK.subn("", statement.text)
    assert count == 1, "the statement locks no rows"
    return timed(text)
