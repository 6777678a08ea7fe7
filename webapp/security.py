"""The headers that tell a browser what our pages may do: nothing but their own files, and no frame around them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from flask import Flask, Response, request
from loguru import logger

from app.config import ROOT

CHART_LIBRARY = ROOT / "static" / "vendor" / "lightweight-charts.js"
HSTS = "max-age=31536000"
_STYLE = re.compile(r'createElement\("style"\),this\.\w+\.innerText="([^"\\]*)"')
_NOT_OURS = ("accelerometer", "camera", "geolocation", "gyroscope", "magnetometer", "microphone", "payment", "usb")


def install(app: Flask) -> None:
    """Put the headers on every answer."""
    fixed = headers()

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in fixed.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        return response


def headers() -> dict[str, str]:
    """The headers that every answer has."""
    return {
        "Content-Security-Policy": policy(style_hashes(CHART_LIBRARY)),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": ", ".join(f"{name}=()" for name in _NOT_OURS),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def policy(hashes: list[str]) -> str:
    """The content-security policy; `hashes` are those of the only style elements there may be."""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self'",
            " ".join(("style-src 'self'", *hashes)),
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "worker-src 'self'",
            "manifest-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def style_hashes(library: Path) -> list[str]:
    """The hash of the style element that lightweight-charts adds for its attribution, read from its own file."""
    try:
        found = _STYLE.search(library.read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found is None:
        logger.warning("no style element found in {}: its logo stays unstyled", library.name)
        return []
    digest = hashlib.sha256(found[1].encode()).digest()
    return [f"'sha256-{base64.b64encode(digest).decode()}'"]
