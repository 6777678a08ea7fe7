"""What a client's queue does when its socket is slow; the socket is the seam."""

from __future__ import annotations

import threading
from typing import Any

from webapp.clients import TRY_AGAIN_LATER, Client


class Gate:
    """A raw socket that takes nothing while it is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.taken: list[bytes] = []
        self.over = threading.Event()

    def sendall(self, data: bytes) -> None:
        self.open.wait(5)
        self.taken.append(data)

    def shutdown(self, _how: int) -> None:
        self.over.set()


class FakeSocket:
    """What simple-websocket is to a client."""

    def __init__(self) -> None:
        self.sock: Any = Gate()
        self.gate: Gate = self.sock
        self.pong_received = False
        self.connected = True
        self.closed: list[int | None] = []

    def receive(self, timeout: float | None = None) -> str | bytes:
        raise NotImplementedError

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        self.closed.append(reason)


def frames(count: int) -> list[bytes]:
    return [b"%d;" % i for i in range(count)]


def started(limit: int) -> tuple[Client, FakeSocket]:
    ws = FakeSocket()
    client = Client(ws, lambda: b"initial;", limit=limit)
    client.refresh()
    client.start()
    return client, ws


def wait_for(ws: FakeSocket, text: bytes) -> bytes:
    for _ in range(500):
        if text in b"".join(ws.gate.taken):
            break
        threading.Event().wait(0.01)
    return b"".join(ws.gate.taken)


def test_the_initial_comes_first_then_frames_in_order() -> None:
    client, ws = started(limit=10)
    ws.gate.open.set()
    wait_for(ws, b"initial;")
    for frame in frames(5):
        client.offer(frame)
    assert wait_for(ws, b"4;") == b"initial;0;1;2;3;4;"
    client.leave()


def test_a_slow_client_gets_a_fresh_initial_in_place_of_what_it_missed() -> None:
    client, ws = started(limit=3)
    threading.Event().wait(0.05)  # the writer holds the first initial at the shut gate
    for frame in frames(4):
        client.offer(frame)
    ws.gate.open.set()
    client.offer(b"after;")
    sent = wait_for(ws, b"initial;initial;")
    assert sent == b"initial;initial;"
    client.offer(b"later;")
    assert wait_for(ws, b"later;") == b"initial;initial;later;"
    assert ws.closed == []
    client.leave()


def test_a_client_overrun_twice_is_closed() -> None:
    client, ws = started(limit=3)
    threading.Event().wait(0.05)
    for frame in frames(20):
        client.offer(frame)
    ws.gate.open.set()
    assert ws.gate.over.wait(5)
    assert ws.closed == [TRY_AGAIN_LATER]


def test_who_answers_no_ping_is_cut_off() -> None:
    client, ws = started(limit=3)
    client.ping()
    ws.pong_received = True
    client.ping()
    assert not ws.gate.over.is_set()
    client.ping()
    assert ws.gate.over.is_set()
    client.leave()
