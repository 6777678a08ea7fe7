"""The explorer page for the stub: the real template over the real document, under the strictest policy it must bear."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, render_template

from app.config import load_settings
from webapp import create_app
from webapp.openapi import document

POLICY = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"


def install(app: Flask) -> None:
    """Add the page and the document to the stub."""
    made: list[dict[str, Any]] = []

    @app.get("/api/docs")
    def api_docs() -> Response:
        return Response(render_template("api-docs.html"), headers={"Content-Security-Policy": POLICY})

    @app.get("/api/openapi.json")
    def openapi() -> dict[str, Any]:
        if not made:
            urls = {"database_url": "postgresql://127.0.0.1:1/none", "redis_url": "redis://127.0.0.1:1/0"}
            made.append(document(create_app(load_settings(_env_file=None, **urls))))  # nothing connects for it
        return made[0]
