"""Migrations on TimescaleDB, there and back with data in the tables; a database that gains the extension later."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.config import ROOT
from app.errors import SchemaError
from app.storage import migrate, timescale
from tests import schema

pytestmark = [pytest.mark.timescale, pytest.mark.timeout(300)]


@pytest.fixture
def fresh(timescale_url: str) -> Iterator[str]:
    """The module's database, without the platform's schema before and after."""
    yield timescale_url
    with schema.connected(timescale_url) as connection:
        at = migrate.current(connection)
    if at is not None:
        migrate.downgrade(timescale_url, "base")


@pytest.fixture
def plain(fresh: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that was made and filled before the server had TimescaleDB."""
    monkeypatch.setattr(timescale, "adopt", lambda connection: None)
    migrate.upgrade(fresh)
    monkeypatch.undo()
    schema.fill(fresh)
    return fresh


def command(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(folder), "REDIS_URL": ""}
    line = [sys.executable, "-m", "app", "db", *arguments]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)


def hypertables(url: str) -> int:
    with schema.connected(url) as connection:
        return timescale.version(connection) is not None and timescale.converted(connection)


def test_every_revision_there_and_back_with_data(fresh: str) -> None:
    assert migrate.upgrade(fresh) == []
    before = schema.shape(fresh, timescale=True)
    assert len(before["hypertables"]) == 12
    assert len(before["jobs"]) == 14
    for revision in schema.REVISIONS:
        schema.fill(fresh)
        full = schema.content(fresh)
        migrate.downgrade(fresh, revision)
        older = schema.content(fresh)
        for table, rows in older.items():
            assert schema.common(full[table], rows) == rows, (revision, table)
        assert not hypertables(fresh)
        assert migrate.upgrade(fresh) == []
        assert schema.shape(fresh, timescale=True) == before, revision
        again = schema.content(fresh)
        for table in older:
            assert schema.common(again[table], older[table]) == older[table], (revision, table)
        migrate.downgrade(fresh, "base")
        assert schema.content(fresh) == {}
        migrate.upgrade(fresh)


def test_plain_tables_made_hypertables_and_back_look_as_declared_here_and_there(plain: str) -> None:
    """The very names of indexes, and the options of storage, on which the platform's speed rests."""
    before, rows = schema.shape(plain), schema.content(plain)
    assert migrate.convert(plain)
    assert schema.content(plain) == rows
    with schema.connected(plain) as connection:
        timescale.revert(connection)
    after = schema.shape(plain)
    assert after == before
    assert schema.content(plain) == rows
    assert migrate.convert(plain)
    assert schema.content(plain) == rows


def test_the_command_converts_a_filled_database_once(plain: str, tmp_path: Path) -> None:
    rows = schema.content(plain)
    said = command(plain, tmp_path, "status").stdout
    assert "plain tables" in said
    assert "no hypertables: `python -m app db timescale` makes them" in said
    done = command(plain, tmp_path, "timescale")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("converting ")
    assert "the server needs as much free disk again" in lines[0]
    assert lines[1].startswith("done in ")
    assert schema.content(plain) == rows
    assert len(schema.shape(plain, timescale=True)["jobs"]) == 14
    again = command(plain, tmp_path, "timescale")
    assert again.stdout.startswith("already: the tables are hypertables of TimescaleDB 2.")
    said = command(plain, tmp_path, "status").stdout
    assert "TimescaleDB 2." in said
    assert "retain_bars" in said
    assert [line.split()[:2] for line in said.splitlines() if line.startswith("candles_1m ")] == [["candles_1m", "3"]]


def test_a_conversion_that_fails_leaves_everything_as_it_was(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rows = schema.shape(plain), schema.content(plain)

    def broken() -> sa.TextClause:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(timescale, "_retain", broken)
    with pytest.raises(RuntimeError, match="in the middle"):
        migrate.convert(plain)
    assert (schema.shape(plain), schema.content(plain)) == (before, rows)


def test_an_older_schema_is_not_converted(fresh: str) -> None:
    migrate.upgrade(fresh, "0003")
    with pytest.raises(SchemaError, match=r"^the schema is at 0003, not \d+: run `python -m app db upgrade` first$"):
        migrate.convert(fresh)
