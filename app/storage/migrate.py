"""Migrations by alembic, from code: the same history for every database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RangeNotAncestorError
from alembic.util import CommandError

from alembic import command
from app.config import ROOT
from app.errors import BadInput, SchemaError
from app.storage import timescale
from app.storage.engine import database_url

LOCK = 7000  # alembic/env.py takes it, too: one migrator at a time
BASE = "base"
IN_THE_WAY = {"55P03", "40P01"}  # a lock was not to be had in time; a deadlock
REST_S = 1.0  # for those who waited behind the migration
PATIENCE_S = 120.0


class Step(NamedTuple):
    """A revision that a downgrade takes back."""

    revision: str
    made: str  # what it had brought
    removes: str  # what is lost with it


def upgrade(url: str, revision: str = "head") -> list[str]:
    """Brings the database at `url` to `revision`; returns what is worth a line to a user. Raises BadInput."""
    config = _config(url)
    config.attributes["notes"] = notes = list[str]()
    try:
        _patiently(lambda: command.upgrade(config, revision), notes)
    except CommandError as error:
        raise _unknown(revision, error) from error
    return notes


def downgrade(url: str, revision: str) -> None:
    """Takes the database at `url` back to `revision`; "base" removes every relation of the platform."""
    try:
        _patiently(lambda: command.downgrade(_config(url), revision), [])
    except CommandError as error:
        raise _unknown(revision, error) from error


def _patiently(migrate: Callable[[], None], notes: list[str]) -> None:
    """Runs a migration, again where others hold a lock it needs: it waits a second each time, and holds nothing since.

    Raises what the database said when that goes on for `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        told = len(notes)
        try:
            migrate()
            return
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in IN_THE_WAY or time.monotonic() > deadline:
                raise
        del notes[told:]
        time.sleep(REST_S)


def newest() -> str:
    """The newest revision there is."""
    return str(_script().get_current_head())


def current(connection: sa.Connection) -> str | None:
    """The revision of the database; None where it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def back(revision: str | None, target: str) -> list[Step]:
    """What a downgrade from `revision` to `target` takes back, newest first; raises BadInput."""
    script = _script()
    try:
        wanted = None if target == BASE else script.get_revision(target)
        steps = [] if revision is None else list(script.iterate_revisions(revision, target))
    except RangeNotAncestorError:  # it is a newer one
        steps = []
    except CommandError as error:
        raise _unknown(target, error) from error
    if not steps:
        at = revision or BASE
        raise BadInput(f"the schema is at {at}: there is nothing to take back to {wanted.revision if wanted else BASE}")
    return [Step(step.revision, step.doc or "", step.module.REMOVES) for step in steps]


def convert(url: str) -> bool:
    """Makes the tables of the database at `url` hypertables; False where they are. Raises SchemaError."""
    engine = sa.create_engine(database_url(url), poolclass=sa.NullPool, connect_args={"connect_timeout": 5})
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        if not convertible(connection):
            return False
        timescale.convert(connection)
    return True


def convertible(connection: sa.Connection) -> bool:
    """Whether there is anything to convert: False where all are hypertables. Raises SchemaError where none can be."""
    at = current(connection)
    if at != newest():
        raise SchemaError(f"the schema is at {at or BASE}, not {newest()}: run `python -m app db upgrade` first")
    if timescale.converted(connection):
        return False
    if obstacle := timescale.offer(connection).obstacle:
        raise SchemaError(obstacle)
    return True


def _config(url: str) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "alembic"))
    config.attributes |= {"url": url, "notes": []}
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(""))


def _unknown(revision: str, error: CommandError) -> BadInput:
    names = sorted(step.revision for step in _script().walk_revisions())
    reason = "" if "locate revision" in str(error) else f" ({error})"
    return BadInput(f"no revision {revision!r}{reason}; there are {BASE}, {', '.join(names)}")
