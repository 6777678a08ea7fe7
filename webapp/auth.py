"""Who may write, and read where reads are closed too: a bearer token, or a JWT signed with our secret."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import jwt
from flask import Flask, g, request

from app.config import Settings
from app.errors import ConfigError
from webapp.errors import Refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CLOSED = ("/api", "/udf", "/ws", "/metrics")  # what has data; the pages themselves hold none
OPEN = frozenset({"/api/health/live", "/api/docs", "/api/openapi.json"})  # of these: no data either
ALGORITHM = "HS256"
LEEWAY_S = 10  # clocks that differ
LONGEST = 4096  # bytes of a token that is looked at
EXPIRED, EXPIRED_TEXT = "token_expired", "the token has expired: ask for a new one"
SET_ONE = "set API_TOKEN or JWT_SECRET"


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges tokens; an empty `token` or `jwt_secret` means that this kind is not taken."""

    token: str
    jwt_secret: str
    reads: bool  # whether reads need one too

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard these settings ask for; raises ConfigError where nobody could ever read."""
        token, secret = settings.api_token.get_secret_value(), settings.jwt_secret.get_secret_value()
        if settings.api_reads_need_token and not (token or secret):
            raise ConfigError(f"API_READS_NEED_TOKEN=1 without a token to ask for: {SET_ONE}")
        return cls(token, secret, settings.api_reads_need_token)

    def judge(self, authorization: str | None) -> float:
        """Until when (seconds) the token of the header `Authorization` is good; raise Refused unless it is right."""
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if not authorization or not given or scheme.lower() != "bearer":
            _refuse("token_missing", "this needs a token: send the header `Authorization: Bearer …`")
        if len(given) > LONGEST or not given.isascii():
            _refuse("token_wrong", "the token is not right", error="invalid_token")
        if self.token and hmac.compare_digest(given.encode(), self.token.encode()):
            return math.inf
        if not self.jwt_secret:
            _refuse("token_wrong", "the token is not right", error="invalid_token")
        try:
            claims = jwt.decode(
                given, self.jwt_secret, algorithms=[ALGORITHM], leeway=LEEWAY_S,
                options={"require": ["exp"], "verify_aud": False},
            )  # fmt: skip
            return float(claims["exp"]) + LEEWAY_S
        except jwt.ExpiredSignatureError:
            _refuse(EXPIRED, EXPIRED_TEXT, error="invalid_token")
        except jwt.MissingRequiredClaimError:
            _refuse("token_wrong", "the token never expires: it needs the claim exp", error="invalid_token")
        except jwt.PyJWTError:
            _refuse("token_wrong", "the token is not right", error="invalid_token")

    def needs(self, method: str, path: str) -> bool:
        """Whether the request needs a token."""
        if method not in SAFE:
            return True
        return self.reads and method != "OPTIONS" and is_closed(path)


def is_closed(path: str) -> bool:
    """Whether reading the path needs a token where reads do."""
    return below(path, *CLOSED) and path not in OPEN


def below(path: str, *places: str) -> bool:
    """Whether the path is one of these places, or below one."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


def good_until() -> float:
    """Until when (seconds) the token of this request is good; for ever where none was needed."""
    until: float = g.get("token_good_until", math.inf)
    return until


def install(app: Flask, settings: Settings) -> None:
    """Ask every request for its token that needs one; an address nobody serves stays 404 or 405."""
    guard = Guard.of(settings)

    @app.before_request
    def ask() -> None:
        if request.routing_exception is not None or not guard.needs(request.method, request.path):
            return
        if not (guard.token or guard.jwt_secret):
            raise Refused(403, "writes_disabled", f"this platform takes no writes: {SET_ONE}, and restart it")
        g.token_good_until = guard.judge(request.headers.get("Authorization"))


def _refuse(code: str, message: str, *, error: str = "") -> NoReturn:
    told = f'Bearer realm="market data", error="{error}"' if error else 'Bearer realm="market data"'
    headers: Mapping[str, str] = {"WWW-Authenticate": told}
    raise Refused(401, code, message, headers=headers)
