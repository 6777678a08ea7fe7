"""Answers with an ETag that a client need not fetch twice, compressed where it pays.

The compressed bytes of an answer are kept by its tag, so that what many ask for is compressed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any

import orjson
from flask import Flask, Response, g, request
from flask_compress import Compress

from app.services.bounded import Bounded

JSON = "application/json"
MIN_BYTES = 2048  # below, the time costs more than the bytes
KEPT_BYTES = 16 * 2**20


class Kept(Bounded[str, bytes]):
    """Compressed answers by tag."""

    def __init__(self, *, most: int = KEPT_BYTES) -> None:
        super().__init__(most)

    def set(self, key: str, value: bytes, *, size: int | None = None) -> None:
        """Keep it, as far as there is room."""
        super().set(key, value, size=len(value) if size is None else size)


_compress = Compress()


def install(app: Flask) -> None:
    """Prepare the application for compressed()."""
    app.config |= {
        "COMPRESS_REGISTER": False,  # nothing is compressed but what compressed() stands at
        "COMPRESS_ALGORITHM": ["zstd", "br", "gzip"],
        # The lowest levels: for numbers the higher ones save a tenth and cost five times as much.
        "COMPRESS_ZSTD_LEVEL": 1,
        "COMPRESS_BR_LEVEL": 1,
        "COMPRESS_LEVEL": 1,
        "COMPRESS_MIN_SIZE": MIN_BYTES,
        "COMPRESS_MIMETYPES": [JSON, "text/csv"],
        "COMPRESS_STREAMS": False,
        "COMPRESS_EVALUATE_CONDITIONAL_REQUEST": False,
        "COMPRESS_CACHE_BACKEND": Kept,
        "COMPRESS_CACHE_KEY": lambda _: g.tag,
    }
    _compress.init_app(app)


def compressed[V: Callable[..., Any]](view: V) -> V:
    """A view whose answers, made by tagged(), are compressed for clients that take it."""
    shrunk = _compress.compressed()(view)

    @wraps(view)
    def fitting(*args: Any, **kwargs: Any) -> Any:
        if "Accept-Encoding" in request.headers:
            return shrunk(*args, **kwargs)
        response: Response = view(*args, **kwargs)  # a program that takes none: nothing to look at then
        response.vary.add("Accept-Encoding")
        return response

    return fitting  # type: ignore[return-value]


def tagged(body: bytes, *, tag: str | None = None, mimetype: str = JSON) -> Response:
    """The answer, or 304 where the client has it; `tag` names its content, without one it is hashed.

    The tag is weak: the compressed answer has the same.
    """
    g.tag = tag or hashlib.sha1(body, usedforsecurity=False).hexdigest()
    known = request.if_none_match.contains_weak(g.tag)
    response = Response(status=304) if known else Response(body, mimetype=mimetype)
    response.set_etag(g.tag, weak=True)
    response.headers["Cache-Control"] = "no-cache"  # keep it, and ask each time whether it still holds
    return response


def tagged_json(body: Any) -> Response:
    """The same for what is to be encoded."""
    return tagged(orjson.dumps(body))
