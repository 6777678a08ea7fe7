"""Errors as clients see them: JSON below /api, a page elsewhere; no stack trace leaves the process."""

from __future__ import annotations

from flask import Flask, Response, jsonify, render_template, request
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
    Unavailable,
    UnknownBackfill,
    UnknownInstrument,
)
from app.storage.trouble import Trouble, trouble_of

AWAY = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, Unavailable)
"""What reading the database raises while it cannot be reached."""


def describe(error: Exception) -> tuple[int, str, str]:
    """(HTTP status, code, message) for a client; the message of an unforeseen error says nothing of its inside."""
    match error:
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
        case HTTPException():
            code = error.name.lower().replace(" ", "_")
            return error.code or 500, code, error.description or error.name
        case exc.TimeoutError():
            return 503, "unavailable", "every connection to the database is in use; try again in a moment"
        case _ if trouble_of(error) is Trouble.SLOW:
            return 503, "too_slow", "the database did not finish this in time; ask for less, or try again in a moment"
        case _ if trouble_of(error) is not None or isinstance(error, Unavailable):
            return 503, "unavailable", "the database cannot be reached; try again in a moment"
        case RedisError():
            return 503, "unavailable", "Redis cannot be reached; try again in a moment"
        case _:
            return 500, "internal", "something went wrong here; the log has the details"


def _answer(error: Exception) -> tuple[Response, int] | tuple[str, int] | Response:
    if isinstance(error, HTTPException) and error.code is not None and error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect is an exception too
    status, code, message = describe(error)
    if status == 500:
        logger.opt(exception=error).error("request failed path={}", request.path)
    elif status == 503:
        logger.warning("request refused path={} cause={}", request.path, type(error).__name__)
    if request.path.startswith(("/api/", "/ws/")) or request.path == "/api":
        return jsonify(error={"code": code, "message": message}), status
    return render_template("error.html", code=status, message=message), status


def install(app: Flask) -> None:
    """Let every error of `app` end here."""
    app.register_error_handler(Exception, _answer)
