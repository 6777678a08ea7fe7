"""Fixtures: a fresh, empty database with TimescaleDB for a test module; tests/conftest.py makes them known everywhere.

It is PostgreSQL in WebAssembly, unless TEST_TIMESCALE_URL names a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.storage.engine import make_engine
from tests.timescale.servers import PACKAGE, RealServer, Timescale, TimescaleServer, WasmServer, node


@pytest.fixture(scope="session")
def timescale_server() -> TimescaleServer:
    """The source of databases; a test is skipped where there is none, and fails with REQUIRE_TIMESCALE=1."""
    url = os.environ.get("TEST_TIMESCALE_URL")
    if url:
        return RealServer(url)
    found = node()
    if found is not None and PACKAGE.is_dir():
        return WasmServer(found)
    reason = "no node on this machine" if found is None else "no PostgreSQL in WebAssembly in node_modules: run npm ci"
    if os.environ.get("REQUIRE_TIMESCALE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def timescale(timescale_server: TimescaleServer) -> Iterator[Timescale]:
    """A fresh, empty database where the extension timescaledb can be created."""
    with timescale_server.database() as database:
        yield database


@pytest.fixture(scope="module")
def timescale_url(timescale: Timescale) -> str:
    """The URL of the module's database with TimescaleDB."""
    return timescale.url


@pytest.fixture(scope="module")
def timescale_engine(timescale: Timescale) -> Iterator[sa.Engine]:
    """An engine on the module's database with TimescaleDB, of no more connections than that serves."""
    engine = make_engine(timescale.settings(), process="tests")
    yield engine
    engine.dispose()
