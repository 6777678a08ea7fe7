"""One of the two databases: filled with the same data, asked in a transaction that is rolled back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from app.domain.timeframes import Timeframe
from app.storage.tables import metadata
from tests.contract.storage import bars, rest
from tests.contract.storage.bars import EDGE, Row

# Wall-clock stamps: the two databases are not asked in the same instant. They are compared by their age in whole hours.
WALL = {
    "updated", "added", "progress", "at", "received", "found", "repaired", "tried", "started", "created", "not_before",
}  # fmt: skip
OURS = 1000  # ids below stood there at the start
UNORDERED = ("touched", "holes")  # which row of a statement gets which id is the plan's
NUMBERED = ("touched", "holes", "differences", "backfills", "instruments")
ROWS_A_STATEMENT = 200

# Before each case: generated ids are the same whatever ran before, and times are printed alike.
SEQUENCES = ", ".join(f"setval('{name}_id_seq', {OURS})" for name in NUMBERED)
START = f"SET LOCAL TIME ZONE 'UTC'; SELECT {SEQUENCES};"
TABLES = tuple(sorted(metadata.tables))
COMPRESS = sa.text(
    "SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, true)"
    " FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND range_end <= :edge"
)
# No policy may change the data in the middle of a comparison.
HALT = sa.text("SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE job_id >= 1000")


class Outcome(NamedTuple):
    """What a case answered, and the tables after it: a digest of each, and the rows of those asked for."""

    answer: Any
    digests: dict[str, str]
    rows: dict[str, list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Database:
    """An engine on a database that holds the starting data."""

    engine: sa.Engine
    hypertables: bool = False
    slow: bool = False  # only what a case is known to change is compared
    planner: str = ""  # a SET LOCAL of each transaction
    heard: set[str] = dataclasses.field(default_factory=set)  # the statements it was sent

    def __post_init__(self) -> None:
        sa.event.listen(self.engine, "before_execute", self._hear)

    def _hear(self, _: sa.Connection, statement: Any, *rest: Any) -> None:
        if isinstance(statement, sa.TextClause):
            self.heard.add(statement.text)

    def fill(self) -> None:
        """Puts the starting data in; TimescaleDB compresses what is older than the border, then come late bars."""
        with self.engine.begin() as connection:
            if self.hypertables:
                connection.execute(HALT)
            now = connection.execute(sa.text("SELECT now()")).scalar_one()
            for table, rows in _starting():
                _insert(connection, table, rows, now)
        if self.hypertables:
            with self.engine.begin() as connection:
                connection.execute(COMPRESS, {"edge": _utc(EDGE)})
        with self.engine.begin() as connection:
            _insert(connection, "candles_1m", bars.late(), now)
            connection.execute(sa.text("ANALYZE"))

    def run(
        self,
        body: Callable[[Any], Any],
        *,
        by_engine: bool = False,
        tables: Iterable[str] = TABLES,
        rows: Callable[[dict[str, str]], Iterable[str]] = lambda _: (),
    ) -> Outcome:
        """The body's answer, the digests of `tables`, and the rows of those that `rows` names; nothing of it stays."""
        answer = plain(body(self.engine)) if by_engine else None
        with self.engine.connect() as connection:
            connection.execute(sa.text(f"{START} {self.planner}"))
            answer = answer if by_engine else plain(body(connection))
            digests = _digests(connection, tuple(tables))
            contents = _contents(connection, sorted(rows(digests)))
            connection.rollback()
        return Outcome(answer, digests, contents)


def plain(value: Any) -> Any:
    """The value as one that compares exactly and reads well: floats and Decimals as written, arrays as lists."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value))
    if isinstance(value, list | tuple):
        parts = [plain(item) for item in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return repr(value) if isinstance(value, float | Decimal) else value


def _starting() -> Iterable[tuple[str, list[Row]]]:
    minutes = bars.minutes()
    candles = {Timeframe.M1: minutes, **bars.longer(minutes)}
    yield from ((f"candles_{tf.value}", rows) for tf, rows in candles.items())
    yield from ((f"indicators_{tf.value}", rows) for tf, rows in bars.indicators(candles).items())
    yield from ((make.__name__, make()) for make in rest.TABLES)


def _insert(connection: sa.Connection, name: str, rows: Sequence[Row], now: datetime) -> None:
    """Few statements, no COPY: as every database can."""
    table = metadata.tables[name]
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        part = [
            {column: _cell(table.c[column], value, now) for column, value in row.items()}
            for row in rows[start : start + ROWS_A_STATEMENT]
        ]
        columns = ", ".join(part[0] | {key: None for row in part for key in row})
        statement = sa.text(
            f'INSERT INTO "{name}" ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns}'
            f' FROM json_populate_recordset(NULL::"{name}", CAST(:rows AS json))'
        )
        connection.execute(statement, {"rows": json.dumps(part)})


def _cell(column: sa.Column[Any], value: Any, now: datetime) -> Any:
    if column.name in WALL and value is not None:
        return (now - timedelta(hours=value)).isoformat()
    if isinstance(column.type, TIMESTAMP) and value is not None:
        return _utc(value).isoformat()
    if isinstance(column.type, sa.Date):
        return _utc(value).date().isoformat()
    if isinstance(column.type, JSONB):
        return value
    return str(value) if isinstance(value, Decimal | float) else value


def _utc(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def _digests(connection: sa.Connection, names: tuple[str, ...]) -> dict[str, str]:
    """Table → md5 of its rows, in one statement."""
    return {row[0]: row[1] for row in connection.execute(_digest_sql(names))} if names else {}


def _contents(connection: sa.Connection, names: Sequence[str]) -> dict[str, list[str]]:
    """Table → its rows as text, in one statement."""
    found: dict[str, list[str]] = {name: [] for name in names}
    if names:
        for name, row in connection.execute(sa.text(" UNION ALL ".join(map(_rows_sql, names)))):
            found[name].append(row)
    return {name: sorted(rows) for name, rows in found.items()}


@cache
def _digest_sql(names: tuple[str, ...]) -> sa.TextClause:
    return sa.text(
        " UNION ALL ".join(
            f"SELECT '{name}' AS name, md5(coalesce(string_agg(r, E'\\n' ORDER BY r COLLATE \"C\"), ''))"
            f" FROM ({_rows_sql(name)}) AS rows (name, r)"
            for name in names
        )
    )


def _rows_sql(name: str) -> str:
    cells = ", ".join(_cell_sql(name, column) for column in metadata.tables[name].c)
    return f"SELECT '{name}' AS name, ROW({cells})::text AS r FROM \"{name}\""


def _cell_sql(table: str, column: sa.Column[Any]) -> str:
    name = f'"{column.name}"'
    if table in UNORDERED and column.name == "id":
        return f"CASE WHEN id <= {OURS} THEN id END"
    if column.name in WALL:
        return f"floor(extract(epoch FROM clock_timestamp() - {name}) / 3600)::int"
    if isinstance(column.type, TIMESTAMP):
        return f"(extract(epoch FROM {name}) * 1000000)::bigint"
    return name
