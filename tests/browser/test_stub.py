"""The back end of the browser tests itself: what a browser does to it is no finding about the pages."""

from __future__ import annotations

import gc
import socket
import struct
import sys
import threading
from urllib.parse import urlsplit

import pytest

from tests.browser.stub import Stub

RESET = struct.pack("ii", 1, 0)  # hangs up with a reset, as a page that is left while its files come


def test_a_browser_that_hangs_up_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: left.append(str(what.exc_value)))
    stub = Stub().start()
    try:
        at = urlsplit(stub.url)
        before = set(threading.enumerate())
        for _ in range(20):
            with socket.create_connection((at.hostname, at.port or 0)) as browser:
                browser.sendall(b"GET /static/js/chart-page.js HTTP/1.1\r\nHost: stub\r\n\r\n")
                assert b"200 OK" in browser.recv(100)
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=10)
        gc.collect()
    finally:
        stub.stop()
    assert left == []
