"""Migrations run up, down and up again, and make what app/storage/tables.py declares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.storage import migrate
from app.storage.tables import metadata


def relations(engine: sa.Engine) -> set[str]:
    names = set(sa.inspect(engine).get_table_names()) | set(sa.inspect(engine).get_view_names())
    return names - {"alembic_version"}


def test_up_down_up(engine: sa.Engine, database_url: str) -> None:
    before = relations(engine)
    assert {"candles_1m", "indicators_1d", "ledger", "touched", "candles", "indicators"} <= before
    migrate.downgrade(database_url, "base")
    assert relations(engine) == set()
    migrate.upgrade(database_url)
    assert relations(engine) == before
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM instruments")) == 17


def test_tables_are_as_declared(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
