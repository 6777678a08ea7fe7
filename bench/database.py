"""Databases to measure on: an embedded PostgreSQL of the script's own, or a new database of the server one names."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from app.config import load_settings
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import migrate, timescale
from app.storage.engine import database_url, make_engine


def arguments(description: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """What every script takes: where to measure, and how often."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server with the right to make databases; otherwise an embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds that count ({rounds})")
    return parser


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of the server to measure on; the embedded one runs without fsync: the disk has no word in it."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        embedded = PostgresServer(Path(folder))
        embedded.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off"}
        with embedded:
            yield embedded.url


@contextmanager
def database(url: str, name: str) -> Iterator[sa.Engine]:
    """A migrated database of its own on the server, dropped afterwards; hypertables where it has TimescaleDB."""
    own = f"bench_{name}_{os.getpid()}"
    admin = sa.create_engine(database_url(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {own}")
    try:
        target = admin.url.set(database=own).render_as_string(hide_password=False)
        migrate.upgrade(target)
        settings = load_settings(
            database_url=target, db_statement_timeout_ms=0, db_idle_tx_timeout_ms=0, _env_file=None
        )
        engine = make_engine(settings, process="bench")
        try:
            yield engine
        finally:
            engine.dispose()
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {own} WITH (FORCE)")


def kind(engine: sa.Engine) -> str:
    """What is measured, for the head of the table."""
    with engine.connect() as connection:
        number = connection.execute(sa.text("SHOW server_version")).scalar_one().split()[0]
        extension = timescale.version(connection) if timescale.converted(connection) else None
    return f"PostgreSQL {number}" + (f", TimescaleDB {extension}" if extension else ", plain tables")


def utc(time_ms: int) -> str:
    """The time as SQL's text."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def run(engine: sa.Engine, statement: str) -> None:
    """A statement as it stands, outside of transactions: VACUUM for instance."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.connection.cursor().execute(statement)


@contextmanager
def stores(name: str, url: str | None) -> Iterator[tuple[Path, RedisServer, sa.Engine]]:
    """A folder that every process may read, a Redis in it, and a database of `name`: what a platform stands on."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        with RedisServer(folder) as wire:
            with server(url) as address, database(address, name) as engine:
                yield folder, wire, engine
