"""Migrations run down and up again with data in the tables, and make what app/storage/tables.py declares."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.errors import BadInput
from app.storage import migrate
from app.storage.tables import metadata
from tests import schema


def relations(engine: sa.Engine) -> set[str]:
    names = set(sa.inspect(engine).get_table_names()) | set(sa.inspect(engine).get_view_names())
    return names - {"alembic_version"}


def test_tables_are_as_declared(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_down_and_up_again_with_data(engine: sa.Engine, database_url: str, revision: str) -> None:
    """What an older schema knows is the same there and back; the new one looks as it did."""
    engine.dispose()
    before = schema.shape(database_url)
    schema.fill(database_url)
    full = schema.content(database_url)
    assert all(full.values())
    migrate.downgrade(database_url, revision)
    if revision == "base":
        assert relations(engine) == set()
    older = schema.content(database_url)
    for table, rows in older.items():
        assert schema.common(full[table], rows) == rows
    assert migrate.upgrade(database_url) == []
    assert schema.shape(database_url) == before
    again = schema.content(database_url)
    for table, rows in again.items():
        known = older.get(table, [])
        assert schema.common(rows, known or rows) == known or table == "instruments"
    assert len(again["instruments"]) == 17
    migrate.downgrade(database_url, "base")
    migrate.upgrade(database_url)


def test_what_a_downgrade_takes_is_said(engine: sa.Engine) -> None:
    steps = migrate.back("0004", "0002")
    assert [step.revision for step in steps] == ["0004", "0003"]
    assert steps[0].removes == "how long bars are kept; hypertables become plain tables, their bars stay"
    assert all(step.removes and step.made for step in migrate.back(migrate.newest(), migrate.BASE))
    with engine.connect() as connection:
        assert migrate.current(connection) == migrate.newest()


def test_a_revision_there_is_not_is_named(database_url: str) -> None:
    for attempt in (
        lambda: migrate.back("0004", "0999"),
        lambda: migrate.upgrade(database_url, "0999"),
        lambda: migrate.downgrade(database_url, "0999"),
    ):
        with pytest.raises(BadInput, match=r"^no revision '0999'; there are base, 0001, 0002, 0003, 0004"):
            attempt()


@pytest.mark.parametrize(("at", "target"), [("0003", "0003"), ("0002", "0003"), (None, "base")])
def test_there_must_be_something_to_take_back(at: str | None, target: str) -> None:
    with pytest.raises(BadInput, match=f"^the schema is at {at or 'base'}: there is nothing to take back to {target}$"):
        migrate.back(at, target)
