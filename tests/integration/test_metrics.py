"""/metrics of a running web process and of workers: what is there, and what is there with Redis or the database away."""

from __future__ import annotations

import urllib.request

from app.config import Settings
from tests.integration.web_server import web_server


def test_try(settings: Settings) -> None:
    with web_server(settings) as address:
        for _ in range(2):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        print(text)
        print((settings.metrics_folder), list(settings.metrics_folder.iterdir()))
    assert 0
