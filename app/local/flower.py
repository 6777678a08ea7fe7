"""Flower's password where its user set none: made once, kept in DATA_DIR, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from app.config import Settings
from app.local.token import kept_secret, read_secret

NAME = "flower-password"


def with_flower_password(settings: Settings) -> Settings:
    """The settings with a password for Flower: the user's own, else that of DATA_DIR, made where there is none."""
    if settings.flower_password.get_secret_value():
        return settings
    return settings.model_copy(update={"flower_password": SecretStr(kept_secret(settings, NAME, "FLOWER_PASSWORD"))})


def flower_password_path(settings: Settings) -> Path | None:
    """The file the password is in; None where the user has set one."""
    path, own = settings.data_dir / NAME, settings.flower_password.get_secret_value()
    return path if not own or own == read_secret(path, "FLOWER_PASSWORD") else None
