"""The web process: pages, REST and WebSockets over Flask; `create_app()` is what gunicorn serves."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from app.bootstrap import platform
from app.config import ROOT, Settings
from webapp import (
    api,
    auth,
    errors,
    limits,
    metrics,
    offline,
    pages,
    proxies,
    request_log,
    security,
    sockets,
    tagged,
    udf,
)
from webapp.composition import compose

STATIC_MAX_AGE_S = 365 * 86_400


def create_app(settings: Settings | None = None) -> Flask:
    """The Flask application; nothing connects before the first request."""
    web = compose(platform(settings, process="web"))
    app = Flask(__name__, static_folder=str(ROOT / "static"), template_folder=str(ROOT / "templates"))
    app.extensions["web"] = web
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    tagged.install(app)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = web.settings.max_body_bytes
    metrics.install(app, web)
    security.install(app)
    limits.install(app, web.settings)  # before auth: guesses of tokens count
    auth.install(app, web.settings)
    app.register_blueprint(api.blueprint(web))
    app.register_blueprint(udf.blueprint(web))
    app.register_blueprint(pages.blueprint(web))
    offline.install(app)
    sockets.install(app, web)
    errors.install(app)
    app.url_defaults(_version_static)
    app.after_request(_keep_static)
    app.context_processor(lambda: {"reads_need_token": web.settings.api_reads_need_token})
    proxies.install(app, web.settings)
    request_log.install(app, web.settings)
    return app


def _version_static(endpoint: str, values: dict[str, Any]) -> None:
    """Put a version into every static address, so that browsers may keep what they have for ever."""
    if endpoint == "static" and "v" not in values:
        path = ROOT / "static" / values.get("filename", "")
        if path.is_file():
            values["v"] = _version(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _version(path: Path, modified_ns: int) -> str:  # the time only makes a changed file a new question
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def _keep_static(response: Response) -> Response:
    if request.endpoint == "static":
        kept = f"public, max-age={STATIC_MAX_AGE_S}, immutable" if "v" in request.args else "no-cache"
        response.headers["Cache-Control"] = kept
    return response
