"""Which schema the database has, and whether it is new enough; without alembic, which takes long to load."""

from __future__ import annotations

import functools

import sqlalchemy as sa

from app.config import ROOT
from app.errors import SchemaError


@functools.cache
def newest() -> str:
    """The newest revision there is, by the files' names: 0005_views.py is revision 0005."""
    return max(path.name.partition("_")[0] for path in (ROOT / "alembic" / "versions").glob("[0-9]*_*.py"))


def require(connection: sa.Connection) -> None:
    """Raises SchemaError where the database has no schema or an older one; a newer program's may be newer."""
    if connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
        raise SchemaError("the database has no schema yet: run `python -m app db upgrade`")
    at = connection.scalar(sa.text("SELECT max(version_num) FROM alembic_version"))
    if at is None or at < newest():
        raise SchemaError(f"the schema is at {at or 'base'}, not {newest()}: run `python -m app db upgrade`")
