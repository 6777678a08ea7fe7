"""Sockets that are refused."""

from __future__ import annotations

from typing import Any

from webapp.sockets import _refuse


class Gone:
    """A socket whose client left during the handshake."""

    connected = True
    pong_received = False

    def __init__(self) -> None:
        self.sock: Any = self
        self.input_buffer: list[str | bytes] = []
        self.asked = 0

    def sendall(self, _data: bytes) -> None:
        self.asked += 1
        raise BrokenPipeError

    def receive(self, timeout: float | None = None) -> None:
        raise NotImplementedError

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        raise NotImplementedError


def test_a_refused_client_that_is_gone_already_is_no_defect() -> None:
    ws = Gone()
    _refuse(ws, "unknown_symbol", "there is none")
    assert ws.asked == 1
