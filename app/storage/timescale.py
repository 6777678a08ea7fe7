"""TimescaleDB: the tables of bars and indicators as hypertables, and back.

The same relations have the same names on plain PostgreSQL; nothing else in app/storage asks which of the two it is on.
A conversion runs in the caller's transaction, so a database is converted wholly or not at all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.keeping import layout
from app.domain.timeframes import Timeframe
from app.errors import SchemaError
from app.storage.sql import sql

KINDS = ("candles", "indicators")
TABLES = tuple(f"{kind}_{tf.value}" for kind in KINDS for tf in Timeframe)
OLDEST = (2, 18)  # it named the columnstore so
DENIED, UNSUPPORTED = "42501", "0A000"  # no privilege; a feature that this build or licence has not
LOAD = "set shared_preload_libraries = 'timescaledb' in postgresql.conf and restart the server"


class Offer(NamedTuple):
    """What the server says of TimescaleDB."""

    default: str | None  # the version CREATE EXTENSION would make; None: it has no such extension
    loaded: bool
    installed: str | None  # the version in this database
    licence: str | None
    server: str
    user: str
    database: str

    @property
    def obstacle(self) -> str | None:
        """Why no hypertable can be made here, and what to do about it; None where nothing speaks against it."""
        if self.default is None:
            package = f"timescaledb-2-postgresql-{self.server.split('.')[0]}"
            return f"PostgreSQL {self.server} has no TimescaleDB: install its package (such as {package}), {LOAD}"
        found = self.installed or self.default
        if not self.loaded:
            return f"TimescaleDB {found} is on the server but not loaded: {LOAD}"
        if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
            return (
                f"TimescaleDB {found} is too old: update the package to {OLDEST[0]}.{OLDEST[1]} or newer, restart the "
                "server, and run ALTER EXTENSION timescaledb UPDATE where the extension is there already"
            )
        if self.licence == "apache":
            return (
                f"this TimescaleDB {found} runs with timescaledb.license = 'apache', without compression and policies: "
                "set it to 'timescale' (the community edition) and restart the server"
            )
        return None


def offer(connection: sa.Connection) -> Offer:
    """What the server says of TimescaleDB."""
    return Offer(*connection.execute(sql("timescale", "offered")).one())


def version(connection: sa.Connection) -> str | None:
    """The extension's version in this database; None where it is not installed."""
    found: str | None = connection.execute(sql("timescale", "installed")).scalar()
    return found


def converted(connection: sa.Connection) -> bool:
    """Whether the tables are hypertables."""
    if version(connection) is None:
        return False
    return bool(connection.execute(sql("timescale", "converted"), {"tables": list(TABLES)}).scalar_one())


def adopt(connection: sa.Connection) -> str | None:
    """Converts where the server has TimescaleDB and allows it; else everything stays plain.

    Returns the reason where TimescaleDB is there and cannot be used.
    """
    found = offer(connection)
    if found.default is None:
        return None
    if found.obstacle is not None:
        return found.obstacle
    try:
        with connection.begin_nested():
            convert(connection)
    except SchemaError as error:
        return str(error)
    return None


def convert(connection: sa.Connection) -> None:
    """Makes every table of bars and indicators a hypertable with its policies, rows kept; takes exclusive locks.

    The extension is made where it is missing. Raises SchemaError where the server has not got it or does not allow it.
    """
    found = offer(connection)
    if found.obstacle is not None:
        raise SchemaError(found.obstacle)
    try:
        if found.installed is None:
            connection.execute(sa.text("CREATE EXTENSION timescaledb"))
    except sa.exc.ProgrammingError as error:
        raise SchemaError(_forbidden(found, error)) from error
    try:
        _convert(connection)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) not in {DENIED, UNSUPPORTED}:
            raise
        raise SchemaError(f"TimescaleDB {found.installed or found.default} refuses: {_reason(error)}") from error


def _forbidden(found: Offer, error: sa.exc.DBAPIError) -> str:
    if getattr(error.orig, "pgcode", None) != DENIED:
        return f"the extension timescaledb cannot be created: {_reason(error)}"
    return (
        f"{found.user} may not create the extension ({_reason(error)}): have a superuser run CREATE EXTENSION "
        f"timescaledb in database {found.database}, or GRANT CREATE ON DATABASE {found.database} TO {found.user}"
    )


def _reason(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]


def _convert(connection: sa.Connection) -> None:
    instruments = connection.execute(sa.text("SELECT count(*) FROM instruments WHERE active")).scalar_one()
    for kind in KINDS:
        for tf in Timeframe:
            chosen, table = layout(tf, instruments), f"{kind}_{tf.value}"
            connection.execute(_of("hypertable", table), {"days": chosen.chunk})
            connection.execute(_of(f"columnstore_{kind}", table))
            connection.execute(_of("compression", table), {"days": chosen.compress_after})
    connection.execute(sa.text("DROP VIEW quality_1h"))
    for name in ("quality", "quality_policy"):
        connection.execute(sql("timescale", name))
    connection.execute(_retain())
    connection.execute(sql("timescale", "retain_policy"))


def revert(connection: sa.Connection) -> None:
    """Makes them plain tables again, rows kept; the extension stays."""
    for job in connection.execute(sql("timescale", "jobs"), {"tables": list(TABLES)}).scalars().all():
        connection.execute(sa.text("SELECT delete_job(:job)"), {"job": job})
    connection.execute(sa.text("DROP PROCEDURE retain_bars(integer, jsonb)"))
    connection.execute(sa.text("DROP MATERIALIZED VIEW quality_1h"))
    views = {view: connection.execute(sql("timescale", "view"), {"view": view}).scalar_one() for view in KINDS}
    for view in views:
        connection.execute(sa.text(f"DROP VIEW {view}"))
    for table in TABLES:
        _make_plain(connection, table)
    for view, query in views.items():
        connection.exec_driver_sql(f"CREATE VIEW {view} AS {query}")
    connection.execute(sql("timescale", "plain_quality"))


def _make_plain(connection: sa.Connection, table: str) -> None:
    indexes = connection.execute(sql("timescale", "indexes"), {"table": table}).scalars().all()
    options = connection.execute(_of("options", table)).scalar()
    connection.execute(_of("copied", table))
    connection.execute(_of("swapped", table))
    for statement in indexes:
        connection.exec_driver_sql(statement)
    if options:
        connection.exec_driver_sql(f'ALTER TABLE "{table}" SET ({options})')


def _retain() -> sa.TextClause:
    """The procedure of retention, of the statements that plain PostgreSQL is sent."""
    text = sql("timescale", "retain").text
    for name in ("cutoffs", "let_go_holes", "let_go"):
        lines = sql("retention", name).text.strip().splitlines()
        body = "\n".join(line for line in lines if not line.startswith("--"))
        text = text.replace("{" + name + "}", body)
    return sa.text(text.replace(":timeframe", "item.timeframe").replace(":cutoff", "item.cutoff"))


def _of(block: str, table: str) -> sa.TextClause:
    """The block for one table."""
    return sa.text(sql("timescale", block).text.replace("{table}", table))
