"""Both databases with the same data, once a session."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.config import load_settings
from app.local.postgres import PostgresServer
from app.storage import migrate
from app.storage.engine import make_engine
from tests.contract.storage.database import Database
from tests.timescale.servers import TimescaleServer


@pytest.fixture(scope="session")
def plain(postgres: PostgresServer, template_database: str) -> Iterator[Database]:
    """A plain PostgreSQL with the starting data: what it answers is what TimescaleDB must answer."""
    name = f"contract_{uuid.uuid4().hex[:12]}"
    _execute(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{template_database}"')
    url = postgres.url.rsplit("/", 1)[0] + f"/{name}"
    engine = make_engine(load_settings(database_url=url, _env_file=None), process="tests")
    database = Database(engine)
    database.fill()
    yield database
    engine.dispose()
    _execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def filled_timescale(timescale_server: TimescaleServer) -> Iterator[Database]:
    """A TimescaleDB with the same data, the older chunks of every table compressed."""
    with timescale_server.database() as served:
        engine = make_engine(served.settings(), process="tests")
        with engine.begin() as connection:  # in WebAssembly it is loaded only with this
            connection.execute(sa.text("CREATE EXTENSION timescaledb"))
        engine.dispose()
        migrate.upgrade(served.url)
        database = Database(engine, hypertables=True, slow=served.connections == 1)
        database.fill()
        yield database
        engine.dispose()


def _execute(postgres: PostgresServer, statement: str) -> None:
    connection = postgres.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.fixture(scope="session")
def by_index(filled_timescale: Database) -> Database:
    """The same TimescaleDB, which reads by an index wherever it can, as it would with a hundred times as many bars."""
    return replace(filled_timescale, planner="SET LOCAL enable_seqscan = off")


@pytest.fixture(
    scope="session",
    params=[
        "plain",
        pytest.param("filled_timescale", marks=pytest.mark.timescale, id="timescale"),
        # Twice the work: only where a real server does it.
        *([pytest.param("by_index", marks=pytest.mark.timescale)] if "TEST_TIMESCALE_URL" in os.environ else []),
    ],
)
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two."""
    found: Database = request.getfixturevalue(request.param)
    return found
