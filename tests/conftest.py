"""Shared fixtures: a real PostgreSQL and Redis for the session, a fresh database for each test module."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
import sqlalchemy as sa

from app.config import ROOT, Settings, load_settings
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import migrate
from app.storage.engine import make_engine
from tests.rabbitmq import RabbitServer, rabbitmq
from tests.timescale.fixtures import (  # noqa: F401  (pytest finds them here)
    timescale,
    timescale_engine,
    timescale_server,
    timescale_url,
)
from tests.wired import address, collector, wire  # noqa: F401  (and here)

DATA = ROOT.parent / "shared" / "data"

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    """No test reads the developer's own settings."""
    for name in [name.upper() for name in Settings.model_fields]:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded market data; a test that needs it is skipped without it, and fails in CI."""
    if not DATA.is_dir():
        if os.environ.get("REQUIRE_DATA") == "1":
            pytest.fail(f"no recorded data at {DATA}")
        pytest.skip("no recorded market data beside the checkout (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL for the session; durability is off, since the data dies with the tests."""
    server = PostgresServer(tmp_path_factory.mktemp("pg"))
    server.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off", "max_connections": "200"}
    with server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for the session."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A real RabbitMQ for the session."""
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def rabbit(rabbit_server: RabbitServer) -> RabbitServer:
    """The session's RabbitMQ without any queue of the platform; a test may restart it."""
    rabbit_server.empty()
    return rabbit_server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis for one test, which may stop it."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: PostgresServer) -> str:
    """The name of a migrated database that new ones are copied from."""
    name = "template_market"
    _create(postgres, name, "template1")
    migrate.upgrade(_url(postgres, name))
    return name


@pytest.fixture(scope="module")
def database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create(postgres, name, template_database)
    yield _url(postgres, name)
    connection = postgres.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


@pytest.fixture(scope="module")
def settings(database_url: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings on the session's servers, with a fresh database and a data folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    return load_settings(
        database_url=database_url, redis_url=redis_server.url, data_dir=folder, log_dir=folder / "logs",
        db_pool_overflow=8,  # one test process stands for several of the platform's
        rate_limit_reads="off", rate_limit_writes="off", ws_per_client=5000,  # and one address asks for all
        # Nobody there: to ask after the exchange's real name would wait for a resolver.
        binance_api_url="http://127.0.0.1:9", _env_file=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[sa.Engine]:
    """An engine on the module's database."""
    engine = make_engine(settings, process="tests")
    yield engine
    engine.dispose()


@pytest.fixture
def redis_client(settings: Settings) -> Iterator[redis.Redis]:
    """A client of the session's Redis, which is emptied first."""
    client = redis.Redis.from_url(settings.redis_url)
    client.flushdb()
    yield client
    client.close()


def _url(postgres: PostgresServer, name: str) -> str:
    return postgres.url.rsplit("/", 1)[0] + f"/{name}"


def _create(postgres: PostgresServer, name: str, template: str) -> None:
    connection = postgres.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    connection.close()
