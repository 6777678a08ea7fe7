"""/metrics, and what the web process records of its requests."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from app.metrics import expose, recorded
from app.metrics.exposition import CONTENT_TYPE
from webapp.composition import Web
from webapp.figures import Figures

PATH = "/metrics"
NOWHERE = "none"  # the route of an address that nobody serves


def install(app: Flask, web: Web) -> None:
    """Add the route, and time every request; before anything that may refuse one."""
    figures = Figures(web.gather.platform, now_ms=web.now_ms)

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        began = g.pop("began", None)
        if "Upgrade" not in request.headers:
            # Without a beginning it is the answer in place of one that took too long.
            seconds = web.settings.request_timeout_s if began is None else time.perf_counter() - began
            recorded.request_ended(route(), request.method, response.status_code, seconds=seconds)
        return response

    @app.get(PATH)
    def metrics() -> Response:
        text = expose(figures, alone=web.settings.web_workers == 1)
        return Response(text, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def route() -> str:
    """The template of the request's address."""
    return request.url_rule.rule if request.url_rule is not None else NOWHERE
