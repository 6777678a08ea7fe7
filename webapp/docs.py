"""The API told to programs and to people: the OpenAPI document, and the page that explores it."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, current_app, render_template
from pydantic import RootModel

from webapp.openapi import JSON, describe, document
from webapp.tagged import compressed, tagged


class OpenApiDocument(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.0)."""


def install(api: Blueprint) -> None:
    """Add the routes below /api."""
    made: list[bytes] = []

    @api.get("/openapi.json")
    @describe(answers={200: OpenApiDocument}, tagged=True, tag="docs")
    @compressed
    def openapi() -> Response:
        """This document."""
        if not made:
            closed = current_app.extensions["web"].settings.api_reads_need_token
            made.append(orjson.dumps(document(current_app, reads_need_token=closed)))
        return tagged(made[0], mimetype=JSON)

    @api.get("/docs")
    @describe(answers={200: {"text/html": None}})
    def docs() -> str:
        """The page that shows this document and tries its operations."""
        return render_template("api-docs.html")
