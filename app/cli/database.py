"""Whose database `db` works on: the one of DATABASE_URL, the running platform's, or the stopped platform's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import sqlalchemy as sa

from app.config import Settings, load_settings
from app.errors import AlreadyRunning, NotRunning, SchemaError, Unavailable
from app.local.runfile import START_HINT, Run, attach, hold, read_run


@contextmanager
def served() -> Iterator[Settings]:
    """Settings with the URL of a database that answers.

    The embedded server of a stopped platform is started for as long as this lasts. Raises NotRunning where there is
    none; what the database refuses becomes Unavailable or SchemaError.
    """
    settings = load_settings()
    run = running(settings)
    if run is not None:
        with one_line():
            yield attach(settings)
    elif settings.database_url:
        with one_line():
            yield settings
    elif (settings.data_dir / "postgres" / "PG_VERSION").exists():
        with hold(settings.data_dir), _embedded(settings) as own, one_line():
            yield own
    else:
        raise NotRunning(f"nothing runs on {settings.data_dir}: {START_HINT}")


@contextmanager
def alone(why: str) -> Iterator[Settings]:
    """As `served`, of a database nobody works on; raises AlreadyRunning with `why` it must be so."""
    settings = load_settings()
    if run := running(settings):
        raise AlreadyRunning(f"the platform runs on {settings.data_dir} (pid {run.pid}): stop it first, {why}")
    # With a URL of one's own, too, `up` is kept from starting meanwhile.
    held = settings.database_url and settings.data_dir.exists() and run is None
    with hold(settings.data_dir) if held else nullcontext():
        with served() as settings:
            from app.storage import inventory

            with connected(settings) as connection:
                others = inventory.sessions(connection)
            if others:
                raise AlreadyRunning(f"a platform works on this database ({', '.join(others)}): stop it first, {why}")
            yield settings


@contextmanager
def connected(settings: Settings) -> Iterator[sa.Connection]:
    """A connection in one transaction, without the limits of time that the platform's own have."""
    from app.storage.engine import database_url

    engine = sa.create_engine(
        database_url(settings.database_url), poolclass=sa.NullPool, connect_args={"connect_timeout": 5}
    )
    with engine.begin() as connection:
        yield connection


@contextmanager
def one_line() -> Iterator[None]:
    """What the database refuses, in one line."""
    try:
        yield
    except sa.exc.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {_first_line(error)}") from error
    except sa.exc.DBAPIError as error:
        raise SchemaError(f"the database refused: {_first_line(error)}") from error


@contextmanager
def _embedded(settings: Settings) -> Iterator[Settings]:
    from app.local.postgres import PostgresServer

    with PostgresServer(settings.data_dir, log=settings.log_dir / "postgres.log") as server:
        yield settings.model_copy(update={"database_url": server.url})


def running(settings: Settings) -> Run | None:
    """The platform of this DATA_DIR, where it runs on the database we mean."""
    run = read_run(settings.data_dir)
    ours = run is not None and run.alive and settings.database_url in ("", run.database_url)
    return run if ours else None


def _first_line(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig).strip()
    return text.split("\n", 1)[0]
