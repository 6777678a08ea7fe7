"""TimescaleDB: the tables of bars and indicators as hypertables, and back.

The same relations have the same names on plain PostgreSQL; nothing else in app/storage asks which of the two it is on.
A conversion runs in the caller's transaction, so a database is converted wholly or not at all.
"""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.keeping import layout
from app.domain.timeframes import Timeframe
from app.storage.sql import sql

KINDS = ("candles", "indicators")
TABLES = tuple(f"{kind}_{tf.value}" for kind in KINDS for tf in Timeframe)


def known(connection: sa.Connection) -> bool:
    """Whether the server has TimescaleDB and has loaded it."""
    return bool(connection.execute(sql("timescale", "known")).scalar_one())


def version(connection: sa.Connection) -> str | None:
    """The extension's version in this database; None where it is not installed."""
    found: str | None = connection.execute(sql("timescale", "installed")).scalar()
    return found


def converted(connection: sa.Connection) -> bool:
    """Whether the tables are hypertables."""
    if version(connection) is None:
        return False
    return bool(connection.execute(sql("timescale", "converted"), {"tables": list(TABLES)}).scalar_one())


def convert(connection: sa.Connection) -> None:
    """Makes every table of bars and indicators a hypertable with its policies, rows kept; needs an empty lock queue.

    The extension is made where it is missing, which the server must allow.
    """
    connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    instruments = connection.execute(sa.text("SELECT count(*) FROM instruments WHERE active")).scalar_one()
    for kind in KINDS:
        for tf in Timeframe:
            chosen, table = layout(tf, instruments), f"{kind}_{tf.value}"
            connection.execute(_of("hypertable", table), {"days": chosen.chunk})
            connection.execute(_of("columnstore", table))
            connection.execute(_of("compression", table), {"days": chosen.compress_after})
    connection.execute(sa.text("DROP VIEW quality_1h"))
    for name in ("quality", "quality_policy", "retain", "retain_policy"):
        connection.execute(sql("timescale", name))


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


def _of(block: str, table: str) -> sa.TextClause:
    """The block for one table."""
    return sa.text(sql("timescale", block).text.replace("{table}", table))
