"""Alembic's environment: one connection, one transaction, an advisory lock against a second migrator.

A statement that waits for a table's lock holds up everybody who comes after it; so it gives up soon, with all of the
migration, and app/storage/migrate.py begins again. The lock is the session's: a migration may commit in between, in an
`autocommit_block`, to build an index CONCURRENTLY.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context
from app.config import load_settings
from app.storage.engine import database_url
from app.storage.tables import metadata

LOCK = 7000
WAIT = "1s"  # of ingest, while a migration waits for its lock


def run() -> None:
    """Runs the migrations asked for."""
    url = context.config.attributes.get("url") or load_settings().database_url
    engine = sa.create_engine(database_url(url), poolclass=sa.NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.execute(sa.text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": WAIT})
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
