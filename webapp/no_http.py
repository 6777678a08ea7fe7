"""What gunicorn answers by itself to what is no HTTP request, or one beyond its limits: as the application would."""

from __future__ import annotations

from typing import Any

import orjson
from gunicorn import util

from webapp import security


def install() -> None:
    """Take the place of gunicorn's own page, which has no headers to keep a browser safe."""
    fixed = "".join(f"{name}: {value}\r\n" for name, value in security.headers().items())

    def write_error(sock: Any, status: int, reason: str, message: str) -> None:
        body = orjson.dumps({"error": {"code": reason.lower().replace(" ", "_"), "message": message}})
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{fixed}\r\n"
        )
        util.write_nonblock(sock, head.encode("latin-1") + body)

    util.write_error = write_error
