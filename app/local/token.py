"""Secrets of a platform whose user set none: made once, kept in DATA_DIR, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from app.config import LEAST_SECRET_BYTES, Settings
from app.errors import ConfigError

NAME = "api-token"
BYTES = 32


def token_path(settings: Settings) -> Path | None:
    """The file the token is in; None where the user has set a token or a secret of their own."""
    own = settings.jwt_secret.get_secret_value() or settings.api_token.get_secret_value()
    path = settings.data_dir / NAME
    return path if not own or own == read_secret(path, "API_TOKEN") else None


def with_token(settings: Settings) -> Settings:
    """The settings with a token: the user's own, else that of DATA_DIR, which is made where it is not there yet."""
    if settings.api_token.get_secret_value() or settings.jwt_secret.get_secret_value():
        return settings
    return settings.model_copy(update={"api_token": SecretStr(kept_secret(settings, NAME, "API_TOKEN"))})


def kept_secret(settings: Settings, name: str, setting: str) -> str:
    """The secret in DATA_DIR/`name`, made where it is not there yet; `setting` is what a user may set instead."""
    path = settings.data_dir / name
    secret = read_secret(path, setting) or _made(path)
    if len(secret.encode()) < LEAST_SECRET_BYTES[setting.lower()]:
        what = "token" if setting == "API_TOKEN" else "password"
        raise ConfigError(f"{path} holds no {what}: delete it, and the next start makes one")
    return secret


def read_secret(path: Path, setting: str) -> str:
    """What the file holds, nothing where it is not there; raises ConfigError where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}): delete it, or set {setting}") from error


def _made(path: Path) -> str:
    secret = secrets.token_urlsafe(BYTES)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
    return secret
