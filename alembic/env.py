"""Alembic's environment: one connection, one transaction, an advisory lock against a second migrator."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context
from app.config import load_settings
from app.storage.engine import database_url
from app.storage.tables import metadata

LOCK = 7000


def run() -> None:
    """Runs the migrations asked for."""
    url = context.config.attributes.get("url") or load_settings().database_url
    engine = sa.create_engine(database_url(url), poolclass=sa.NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            context.run_migrations()
    engine.dispose()


run()
