"""Migrations by alembic, from code: the same history for every database."""

from __future__ import annotations

from alembic.config import Config

from alembic import command
from app.config import ROOT


def _config(url: str) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "alembic"))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Brings the database at `url` to `revision`."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Takes the database at `url` back to `revision`; "base" removes every relation of the platform."""
    command.downgrade(_config(url), revision)
