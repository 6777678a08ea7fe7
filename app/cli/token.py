"""`token`: a JWT for a program that may write."""

from __future__ import annotations

from typing import Annotated

import typer

MOST_DAYS = 3650


def token(
    days: Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="How long it is good for.")] = 30,
    name: Annotated[str, typer.Option("--name", help="Whom it is for; kept in the claim sub.")] = "",
) -> None:
    """Print a token for the API, signed with [bold]JWT_SECRET[/].

    A token cannot be called back: another JWT_SECRET ends all of them.
    """
    import time

    import jwt

    from app.config import load_settings
    from app.errors import ConfigError

    secret = load_settings().jwt_secret.get_secret_value()
    if not secret:
        raise ConfigError("JWT_SECRET is not set: a token is signed with it, and so the platform knows it again")
    now_s = int(time.time())
    claims: dict[str, object] = {"iat": now_s, "exp": now_s + days * 86_400}
    print(jwt.encode(claims | ({"sub": name} if name else {}), secret, algorithm="HS256"))
