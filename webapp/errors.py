"""Errors as clients see them: JSON below /api, a page elsewhere; no stack trace leaves the process."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from flask import Flask, Response, render_template, request
from loguru import logger
from redis import RedisError
from sqlalchemy import exc
from werkzeug.exceptions import HTTPException

from app.errors import (
    AmbiguousSymbol,
    BackfillOver,
    BadInput,
    BadRange,
    NotKept,
    PlatformError,
    SourceError,
    Unavailable,
    UnknownBackfill,
    UnknownInstrument,
)
from app.storage.trouble import Trouble, trouble_of
from webapp.request_log import request_id

AWAY = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, Unavailable)
"""What reading the database raises while it cannot be reached."""

TITLES = {404: "Nothing here", 429: "Too many requests", 503: "Not available right now"}
RETRY_S = "2"  # what a client is told to wait while something is away
DATA = ("/api", "/ws", "/udf", "/metrics")  # asked by programs: their errors are no pages


class Refused(PlatformError):
    """Raised where a request is not let in: a token, a limit, an origin."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.headers = status, code, dict(headers or {})
        super().__init__(message)


class TooSlow(PlatformError):
    """Raised for a request that took longer than any may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"this took longer than {seconds:g} s and was ended; ask for less, or try again in a moment")


def describe(error: Exception) -> tuple[int, str, str]:
    """(HTTP status, code, message) for a client; the message of an unforeseen error says nothing of its inside."""
    match error:
        case Refused():
            return error.status, error.code, str(error)
        case TooSlow():
            return 503, "too_slow", str(error)
        case UnknownInstrument():
            return 404, "unknown_symbol", str(error)
        case AmbiguousSymbol():
            return 400, "ambiguous_symbol", str(error)
        case BadRange():
            return 400, "bad_range", str(error)
        case UnknownBackfill():
            return 404, "unknown_backfill", str(error)
        case BackfillOver():
            return 409, "backfill_over", str(error)
        case NotKept():
            return 400, "not_kept", str(error)
        case BadInput():
            return 400, "bad_parameter", str(error)
        case SourceError():
            return 503, "exchange_unavailable", str(error)
        case HTTPException() if error.code == 413:
            return 413, "too_large", "the request's body is too large; MAX_BODY_BYTES says how much is taken"
        case HTTPException():
            code = error.name.lower().replace(" ", "_")
            return error.code or 500, code, error.description or error.name
        case exc.TimeoutError():
            return 503, "unavailable", "every connection to the database is in use; try again in a moment"
        case _ if trouble_of(error) is Trouble.SLOW:
            return 503, "too_slow", "the database did not finish this in time; ask for less, or try again in a moment"
        case _ if trouble_of(error) is Trouble.READ_ONLY:
            return 503, "unavailable", "the database takes no writes at present; try again in a moment"
        case _ if trouble_of(error) is not None or isinstance(error, Unavailable):
            return 503, "unavailable", "the database cannot be reached; try again in a moment"
        case RedisError():
            return 503, "unavailable", "Redis cannot be reached; try again in a moment"
        case _:
            return 500, "internal", "something went wrong here; the log has the details"


def answer(error: Exception) -> Response:
    """What a client gets: JSON for programs, in UDF's own shape below /udf, a page of the product for people."""
    if isinstance(error, HTTPException) and error.code is not None and error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect is an exception too
    status, code, message = describe(error)
    if status == 500:
        logger.opt(exception=error).error("request failed path={}", request.path)
    elif status == 503:
        logger.warning("request refused path={} cause={}", request.path, type(error).__name__)
    headers = _headers(error) | {"Cache-Control": "no-store"}
    if status == 503:
        headers.setdefault("Retry-After", RETRY_S)
    response = _shown(error, status, code, message=message, retry_after=headers.get("Retry-After"))
    response.headers.update(headers)
    return response


def _shown(error: Exception, status: int, code: str, *, message: str, retry_after: str | None) -> Response:
    if request.path.startswith("/udf/") or request.path == "/udf":
        return _json({"s": "error", "errmsg": f"{code}: {message}"}, status)
    if any(request.path == place or request.path.startswith(f"{place}/") for place in DATA):
        return _json(fault(code, message), status)
    if isinstance(error, UnknownInstrument):
        message = message.partition(":")[0]  # the rest is for the command line
    title = TITLES.get(status, "Something broke on our side" if status >= 500 else "That did not work")
    page = render_template(
        "error.html", code=status, title=title, message=message, near=_near(error), retry_after=retry_after
    )
    return Response(page, status=status, mimetype="text/html")


def fault(code: str, message: str) -> dict[str, object]:
    """The body of an error below /api (answers.ErrorAnswer); with its `request_id` the log tells the rest."""
    return {"error": {"code": code, "message": message, "request_id": request_id()}}


def _near(error: Exception) -> list[dict[str, str]]:
    """Charts whose address is near to one that nobody has."""
    from webapp.suggestions import nearest  # it needs what needs this module

    return nearest() if isinstance(error, UnknownInstrument) else []


def _headers(error: Exception) -> dict[str, str]:
    """The headers that belong to an error: which methods there are, how long to wait, which token to send."""
    if isinstance(error, Refused):
        return error.headers
    if isinstance(error, HTTPException):
        return {name: value for name, value in error.get_headers() if name not in ("Content-Type", "Content-Length")}
    return {}


def _json(body: dict[str, object], status: int) -> Response:
    return Response(orjson.dumps(body) + b"\n", status=status, mimetype="application/json")


def install(app: Flask) -> None:
    """Let every error of `app` end here."""
    app.register_error_handler(Exception, answer)
