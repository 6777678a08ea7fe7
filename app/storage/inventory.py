"""What a database holds: server, revision, each table's rows, size, chunks and retention, TimescaleDB's jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from app.storage import migrate, timescale
from app.storage.sql import sql

COUNTED_BYTES = 8 << 20  # a table without an estimate is counted where it is no bigger


@dataclass(slots=True)
class Table:
    """One table; sizes in bytes, indexes and TOAST included."""

    name: str
    rows: int | None  # an estimate; None: not known yet
    bytes: int
    chunks: int | None = None  # None: no hypertable
    compressed: int | None = None  # chunks
    ratio: float | None = None  # how many times smaller compression made what it has got to
    keep_days: int | None = None  # None: for ever
    kept_from_ms: int | None = None  # what was asked to be kept beyond the days
    kept_since_ms: int | None = None  # what is older is let go


@dataclass(slots=True)
class Job:
    """A background job of TimescaleDB."""

    id: int
    name: str
    table: str | None
    every_s: float
    scheduled: bool
    last_run_ms: int | None
    last_status: str | None
    next_run_ms: int | None
    runs: int
    failures: int


@dataclass(slots=True)
class Inventory:
    """The whole of it."""

    server: str
    timescaledb: str | None
    obstacle: str | None  # why the tables are plain ones; None where they are hypertables
    database: str
    bytes: int
    revision: str | None
    newest: str
    tables: list[Table] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


def read(connection: sa.Connection) -> Inventory:
    """The inventory of the connection's database."""
    server, database, size, extension = connection.execute(sql("inventory", "server")).one()
    hyper = timescale.converted(connection)
    obstacle = None if hyper else timescale.offer(connection).obstacle or "`python -m app db timescale` makes them"
    found = Inventory(
        server, extension, obstacle, database, size, migrate.current(connection), migrate.newest(), _tables(connection)
    )
    if hyper:
        _add_chunks(connection, found.tables)
    _count(connection, found.tables)
    if hyper:
        values = {"tables": list(timescale.TABLES)}
        found.jobs = [Job(*row) for row in connection.execute(sql("inventory", "jobs"), values)]
    if any(table.name == "retention" for table in found.tables):
        _add_retention(connection, found.tables)
    return found


def size(connection: sa.Connection) -> tuple[str, int, str | None]:
    """(server version, bytes on disk, TimescaleDB's version or None); looks at every file, so not to be asked often."""
    version, count, extension = connection.execute(sql("inventory", "size")).one()
    return str(version), int(count), extension


def connections(connection: sa.Connection) -> int:
    """How many connections the database has, this one included."""
    return int(connection.execute(sql("inventory", "connections")).scalar_one())


def sessions(connection: sa.Connection) -> list[str]:
    """The names of the platform's processes that are connected to this database, beside this one."""
    return [row[0] for row in connection.execute(sql("inventory", "sessions"))]


def _tables(connection: sa.Connection) -> list[Table]:
    tables = [Table(*row) for row in connection.execute(sql("inventory", "tables"))]
    return sorted((table for table in tables if table.name != "alembic_version"), key=lambda table: _place(table.name))


def _count(connection: sa.Connection, tables: list[Table]) -> None:
    """Rows of tables that nobody has analysed yet, where counting them takes no time."""
    for table in tables:
        if table.rows is not None and table.rows <= 0:
            count = sa.select(sa.func.count()).select_from(sa.table(table.name))
            table.rows = connection.scalar(count) if table.bytes <= COUNTED_BYTES else None


def _place(name: str) -> tuple[int, str]:
    """Candles by length, indicators by length, the rest by name."""
    return (timescale.TABLES.index(name), "") if name in timescale.TABLES else (len(timescale.TABLES), name)


def _add_chunks(connection: sa.Connection, tables: list[Table]) -> None:
    known = {table.name: table for table in tables}
    for name, rows, size, chunks, compressed, before, after in connection.execute(sql("inventory", "hypertables")):
        if table := known.get(name):
            table.rows, table.bytes, table.chunks, table.compressed = rows, size, chunks, compressed
            table.ratio = before / after if before and after else None


def _add_retention(connection: sa.Connection, tables: list[Table]) -> None:
    law = sql("retention", "cutoffs").text
    statement = sa.text(sql("inventory", "retention").text.replace("{cutoffs}", law))
    for timeframe, *facts in connection.execute(statement):
        for table in tables:
            if table.name in (f"candles_{timeframe}", f"indicators_{timeframe}"):
                table.keep_days, table.kept_from_ms, table.kept_since_ms = facts
