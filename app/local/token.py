"""The API's token of a platform whose user set none: made once, kept in DATA_DIR, readable by its owner only."""

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
    return path if not own or own == _read(path) else None


def with_token(settings: Settings) -> Settings:
    """The settings with a token: the user's own, else that of DATA_DIR, which is made where it is not there yet."""
    if settings.api_token.get_secret_value() or settings.jwt_secret.get_secret_value():
        return settings
    path = settings.data_dir / NAME
    token = _read(path) or _made(path)
    if len(token.encode()) < LEAST_SECRET_BYTES["api_token"]:
        raise ConfigError(f"{path} holds no token: delete it, and the next start makes one")
    return settings.model_copy(update={"api_token": SecretStr(token)})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}): delete it, or set API_TOKEN") from error


def _made(path: Path) -> str:
    token = secrets.token_urlsafe(BYTES)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    return token
