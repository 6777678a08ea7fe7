"""The page for when this process is down, and the service worker that keeps it in the browser."""

from __future__ import annotations

import hashlib

from flask import Flask, Response, render_template

from app.config import ROOT

WORKER = ROOT / "static" / "js" / "sw.js"
KEPT = (
    "css/tokens.css", "css/components.css", "css/error.css", "js/theme-init.js", "js/offline-page.js",
    "vendor/inter-latin.woff2",
)  # fmt: skip


def install(app: Flask) -> None:
    """Add /offline, and /sw.js at the root: a worker looks after what is below its own address."""

    @app.get("/offline")
    def offline() -> Response:
        """What a browser shows by itself while nobody answers."""
        return Response(render_template("offline.html"), headers={"Cache-Control": "no-cache"})

    @app.get("/sw.js")
    def worker() -> Response:
        """The service worker; another one as soon as anything it keeps is another."""
        kept = hashlib.sha256(render_template("offline.html").encode())
        for name in KEPT:
            kept.update((ROOT / "static" / name).read_bytes())
        text = f"{WORKER.read_text(encoding='utf-8')}// It keeps {kept.hexdigest()[:16]}.\n"
        return Response(text, mimetype="text/javascript", headers={"Cache-Control": "no-cache"})
