"""Every request by its id: in the answer's headers, in an error's body, in all log lines of the request, in one line.

An id that a trusted proxy gave is kept, so that one id goes through both logs; everybody else's would let a client
write into ours.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from loguru import logger

from app.config import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-ID"
_GIVEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")
_ID, _ROUTE = "market.request_id", "market.route"


def install(app: Flask, settings: Settings) -> None:
    """Wrap the application, outermost; what was put around it before belongs to the request too."""
    app.after_request(_note_route)
    level = "INFO" if settings.log_format == "json" else "DEBUG"
    app.wsgi_app = _named(app.wsgi_app, level, trust=settings.trusted_proxies > 0)  # type: ignore[assignment, method-assign]


def request_id() -> str:
    """The id of the request that is answered now."""
    return str(request.environ.get(_ID, ""))


def _note_route(response: Response) -> Response:
    rule = request.url_rule
    request.environ[_ROUTE] = rule.rule if rule is not None else ""
    return response


def _named(inner: WSGIApplication, level: str, *, trust: bool) -> WSGIApplication:
    def run(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        name = given if trust and _GIVEN.fullmatch(given) else secrets.token_hex(8)
        environ[_ID] = name
        status = 101  # a WebSocket ends without a word to us

        def begin(line: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start(line, [*headers, (HEADER, name)], *more)

        began = time.perf_counter()
        with logger.contextualize(request_id=name):
            try:
                return inner(environ, begin)
            finally:
                logger.log(
                    level, "request", method=environ.get("REQUEST_METHOD", ""), route=environ.get(_ROUTE, ""),
                    status=status, ms=round((time.perf_counter() - began) * 1000, 1),
                )  # fmt: skip

    return run
