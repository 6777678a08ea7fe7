"""What happens to a request before Flask sees it: whom it came from, its token out of the address, its time limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from flask import Flask
from gevent import Timeout, monkey
from werkzeug.middleware.proxy_fix import ProxyFix

from app.config import Settings
from webapp.auth import below
from webapp.errors import TooSlow, answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SOCKETS = "/ws"
ADDRESSES = ("RAW_URI", "REQUEST_URI")  # gunicorn's, werkzeug's: the address as it came, query and all


def install(app: Flask, settings: Settings) -> None:
    """Wrap the application, the proxy's headers outermost."""
    wrapped: WSGIApplication = limited(app, app.wsgi_app, seconds=settings.request_timeout_s)
    wrapped = token_out_of_address(wrapped)
    if settings.trusted_proxies:
        n = settings.trusted_proxies
        wrapped = ProxyFix(wrapped, x_for=n, x_proto=n, x_host=n, x_port=0, x_prefix=0)
    app.wsgi_app = wrapped  # type: ignore[assignment, method-assign]


def token_out_of_address(inner: WSGIApplication) -> WSGIApplication:
    """Browsers cannot send a header with a WebSocket, so `?token=` is taken there.

    It moves into the header before anything can log or show the address (law 10).
    """

    def run(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "token=" in environ.get("QUERY_STRING", ""):
            kept, token = _parted(environ["QUERY_STRING"])
            environ["QUERY_STRING"] = kept
            for name in ADDRESSES:
                if name in environ:
                    environ[name] = environ[name].partition("?")[0] + (f"?{kept}" if kept else "")
            if token and below(environ.get("PATH_INFO", ""), SOCKETS):
                environ.setdefault("HTTP_AUTHORIZATION", f"Bearer {token}")
        return inner(environ, start)

    return run


def limited(app: Flask, inner: WSGIApplication, *, seconds: float) -> WSGIApplication:
    """A request that takes longer is ended with 503; a WebSocket is none.

    gevent's Timeout is no Exception: no handler on its way takes it for a mistake of its own, and SQLAlchemy throws
    the connection away that was waiting.
    """

    def run(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if not monkey.is_module_patched("socket") or _is_socket(environ):
            return inner(environ, start)
        timer = Timeout(seconds)
        timer.start()
        try:
            return inner(environ, start)
        except Timeout as late:
            if late is not timer:
                raise
            with app.request_context(environ):
                return app.finalize_request(answer(TooSlow(seconds)))(environ, start)
        finally:
            timer.close()

    return run


def _is_socket(environ: WSGIEnvironment) -> bool:
    return environ.get("HTTP_UPGRADE", "").lower() == "websocket" and below(environ.get("PATH_INFO", ""), SOCKETS)


def _parted(query: str) -> tuple[str, str]:
    """The query without `token`, and its last value."""
    token, kept = "", []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == "token":
            token = unquote_plus(value)
        else:
            kept.append(part)
    return "&".join(kept), token
