"""A user who may not create the extension: the platform starts with plain tables, the command says who must do what.

In a module of its own: PostgreSQL in WebAssembly takes the extension once.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.errors import SchemaError
from app.storage import migrate, timescale
from tests import schema
from tests.timescale.servers import Timescale
from tests.timescale.test_migrations import command

pytestmark = [pytest.mark.timescale, pytest.mark.timeout(300)]


def test_without_the_privilege_the_tables_stay_plain_and_the_command_says_who_must_do_what(
    timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timescale, "adopt", lambda connection: None)
    migrate.upgrade(timescale_url)
    monkeypatch.undo()
    with schema.connected(timescale_url) as connection:
        connection.execute(sa.text("CREATE ROLE ordinary; GRANT ALL ON ALL TABLES IN SCHEMA public TO ordinary"))
    try:
        with schema.connected(timescale_url) as connection:
            connection.execute(sa.text("SET LOCAL ROLE ordinary"))
            reason = timescale.adopt(connection)
            database = connection.scalar(sa.text("SELECT current_database()"))
            assert timescale.version(connection) is None
            with pytest.raises(SchemaError) as refused, connection.begin_nested():
                timescale.convert(connection)
    finally:
        with schema.connected(timescale_url) as connection:
            connection.execute(sa.text("DROP OWNED BY ordinary; DROP ROLE ordinary"))
        migrate.downgrade(timescale_url, "base")
    assert reason == str(refused.value)
    assert reason == (
        'ordinary may not create the extension (permission denied to create extension "timescaledb"): have a '
        f"superuser run CREATE EXTENSION timescaledb in database {database}, or GRANT CREATE ON DATABASE {database} TO "
        "ordinary"
    )


def test_an_ordinary_user_migrates_to_plain_tables_and_converts_once_allowed(
    request: pytest.FixtureRequest, timescale_url: str, tmp_path: Path
) -> None:
    found: Timescale = request.getfixturevalue("timescale")
    if not found.workers:
        pytest.skip("the server knows one user only")
    name, database = f"user_{uuid.uuid4().hex[:8]}", sa.make_url(timescale_url).database
    with schema.connected(timescale_url) as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        connection.execute(sa.text(f'CREATE ROLE "{name}" LOGIN; GRANT ALL ON SCHEMA public TO "{name}"'))
    url = sa.make_url(timescale_url).set(username=name).render_as_string(hide_password=False)
    try:
        done = command(url, tmp_path, "upgrade")
        assert done.returncode == 0
        assert done.stdout.startswith(f"! the tables stay plain: {name} may not create the extension (")
        assert done.stdout.endswith("the schema is up to date\n")
        refused = command(url, tmp_path, "timescale")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert refused.stderr.startswith(f"error: {name} may not create the extension (")
        with schema.connected(timescale_url) as connection:
            connection.execute(sa.text(f'GRANT CREATE ON DATABASE "{database}" TO "{name}"'))
        assert command(url, tmp_path, "timescale").returncode == 0
        migrate.downgrade(url, "base")
    finally:
        with schema.connected(timescale_url) as connection:
            connection.execute(sa.text(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"'))
