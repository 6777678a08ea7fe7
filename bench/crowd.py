"""Many WebSocket clients in one process that count updates and note when each came, and look at nothing else."""

from __future__ import annotations

import base64
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Sequence

MARK = b'"indicators":null'  # of an update, once
WAIT_S = 30.0


def more_files() -> None:
    """Let this process and its children have as many sockets as the machine allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_socket(port: int, path: str, *, say: bytes = b"", receive_bytes: int = 0) -> socket.socket:
    """A WebSocket after its handshake; `say` is its first message, `receive_bytes` how much the kernel holds for it."""
    opened = socket.socket()
    if receive_bytes:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    opened.settimeout(WAIT_S)
    opened.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    opened.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += opened.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(head.decode(errors="replace"))
    if say:
        opened.sendall(struct.pack("!BB4x", 0x81, 0x80 | len(say)) + say)
    return opened


class Crowd:
    """So many clients of one way; an update counts for a client once its frame has come whole."""

    def __init__(self, port: int, path: str, number: int, *, say: bytes = b"") -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(number):
            opened = open_socket(port, path, say=say)
            opened.setblocking(False)
            self._sockets[opened.fileno()] = opened
            self._poll.register(opened, select.EPOLLIN)
        self._seen = dict.fromkeys(self._sockets, 0)
        self._tails = dict.fromkeys(self._sockets, b"")
        self._buffer = memoryview(bytearray(1 << 20))

    def settle(self, seconds: float = 1.0) -> None:
        """Read until nothing has come for so long; what came does not count."""
        while ready := self._poll.poll(seconds):
            for number, _ in ready:
                self._receive(number)
        self.forget()

    def forget(self) -> None:
        """Count from zero."""
        self._seen = dict.fromkeys(self._sockets, 0)

    def deliveries(self, updates: int) -> None:
        """Read until everybody has exactly `updates`; raises TimeoutError."""
        self._collect(updates, until=time.perf_counter() + WAIT_S)
        self.forget()

    def latencies(self, sent: Sequence[float], *, until: float) -> list[float]:
        """Read until the time `until`, and return how long after `sent[n]` each client had its update n."""
        return self._collect(len(sent) + 1, until=until, sent=sent, patient=False)

    def _collect(self, updates: int, *, until: float, sent: Sequence[float] = (), patient: bool = True) -> list[float]:
        missing = sum(seen < updates for seen in self._seen.values())
        found: list[float] = []
        seen, poll, receive, now = self._seen, self._poll.poll, self._receive, time.perf_counter
        while missing and (left := until - now()) > 0:
            for number, _ in poll(left):
                before = seen[number]
                after = seen[number] = before + receive(number)
                missing -= before < updates <= after
                if sent:
                    at = now()
                    # A live bar is told once more when somebody is given a fresh chart: more may come than was sent.
                    found += [at - sent[place] for place in range(before, min(after, len(sent)))]
        if missing and patient:
            raise TimeoutError(f"{missing} clients lack updates; of {updates} the least has {min(seen.values())}")
        return found

    def _receive(self, number: int) -> int:
        size = self._sockets[number].recv_into(self._buffer)
        if not size:
            raise ConnectionError("a client was closed")
        data = self._tails[number] + self._buffer[:size]
        self._tails[number] = data[1 - len(MARK) :]
        return data.count(MARK)

    def close(self) -> None:
        """Leave."""
        for each in self._sockets.values():
            each.close()
        self._poll.close()
