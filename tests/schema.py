"""A database's shape and its rows, to be compared before and after migrations; works on one connection at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.storage.engine import database_url
from app.storage.tables import metadata

REVISIONS = ("0003", "0002", "0001", "base")
NUMBER = re.compile(r"(_materialized_hypertable_|cagg_watermark\()\d+")  # another one each time
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
    FROM information_schema.columns WHERE table_schema = current_schema()"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
OPTIONS = """SELECT relname, array_to_string(reloptions, ', ') FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"""
VIEWS = "SELECT viewname, definition FROM pg_views WHERE schemaname = current_schema()"
CONSTRAINTS = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace AND contype <> 'n'"""
HYPERTABLES = """SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions
    WHERE hypertable_schema = current_schema()"""
COMPRESSION = "SELECT hypertable::text, segmentby, orderby FROM timescaledb_information.hypertable_compression_settings"
JOBS = """SELECT proc_name, hypertable_name, schedule_interval, config - 'hypertable_id' - 'mat_hypertable_id'
    FROM timescaledb_information.jobs WHERE job_id >= 1000"""
PROCEDURES = "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND prokind = 'p'"


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection in one transaction, gone afterwards."""
    engine = sa.create_engine(database_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


def shape(url: str, *, timescale: bool = False) -> dict[str, list[str]]:
    """Columns, indexes, constraints, storage options, views; on TimescaleDB hypertables, policies and jobs as well."""
    wanted = {"columns": COLUMNS, "indexes": INDEXES, "options": OPTIONS, "views": VIEWS, "constraints": CONSTRAINTS}
    if timescale:
        more = {"hypertables": HYPERTABLES, "compression": COMPRESSION, "jobs": JOBS, "procedures": PROCEDURES}
        wanted |= more
    with connected(url) as connection:
        found = {name: connection.execute(sa.text(query)).all() for name, query in wanted.items()}
    return {name: sorted(NUMBER.sub(r"\1", repr(tuple(row))) for row in rows) for name, rows in found.items()}


def content(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, by table."""
    with connected(url) as connection:
        names = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        return {name: _rows(connection, name) for name in sorted(names)}


def _rows(connection: sa.Connection, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(f'SELECT * FROM "{table}" ORDER BY 1, 2, 3')).mappings()]


def common(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `before` in the columns that `after` has, too."""
    kept = after[0].keys() if after else ()
    return [{name: value for name, value in row.items() if name in kept} for row in before]


def fill(url: str, rows: int = 3) -> None:
    """Some rows in every table that the migrations do not fill, of values that follow from column and number."""
    with connected(url) as connection:
        for table in metadata.sorted_tables:
            if table.name == "instruments":
                continue
            columns = [column for column in table.columns if column.identity is None]
            values = [{column.name: _value(column, number) for column in columns} for number in range(1, rows + 1)]
            connection.execute(sa.insert(table), values)


def _value(column: sa.Column[Any], number: int) -> object:
    """A value for the column; bars lie years apart, in several chunks."""
    kind = type(column.type).__name__
    seed = len(column.name) * 100 + number
    if column.name == "timeframe":
        return ("1m", "5m", "1h", "1d")[number % 4]
    if column.name == "time":
        return NOON + timedelta(days=400 * number)
    made: dict[str, object] = {
        "TIMESTAMP": NOON + timedelta(days=number, minutes=seed),
        "Date": date(2024, 1, number),
        "Text": f"{column.name} {number}",
        "Boolean": number % 2 == 0,
        "JSONB": {column.name: number},
        "ARRAY": [column.name, str(number)],
        "INT8MULTIRANGE": f"{{[1,{number + 1}),[{seed},{seed + 5})}}",
        "TSTZMULTIRANGE": "{[2024-01-01,2024-01-02),[2024-02-01,)}",
        "SmallInteger": number % 3,
        "DOUBLE_PRECISION": seed / 8,
        "Numeric": seed * 10**20 + number,
    }
    return made.get(kind, seed if kind == "BigInteger" else number)
