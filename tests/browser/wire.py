"""A wire between browser and web process that can be cut as a network is: what was connected says no word again."""

from __future__ import annotations

import contextlib
import socket
import threading


class Wire:
    """Listens on a loopback port and passes on to `target` ("host:port"), which may be another one later."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._dead = False
        self._cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """No byte goes through; connections stand half open for ever, new ones get no answer."""
        self._dead = True
        self._cuts += 1

    def mend(self) -> None:
        """New connections work again; those of before the cut do not."""
        self._dead = False

    def drop(self) -> None:
        """End what is connected; new connections work."""
        for each in self._sockets:
            _end(each)

    def close(self) -> None:
        """Listen no more, and end what is connected."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)  # it may be joining two of them
        for each in self._sockets:
            _end(each)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if not self._dead:
                    self._join(near)

    def _join(self, near: socket.socket) -> None:
        host, port = self.target.split(":")
        try:
            far = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            _end(near)  # nobody listens there
            return
        far.settimeout(None)
        self._sockets.append(far)
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(one, other, self._cuts), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, cuts: int) -> None:
        with contextlib.suppress(OSError):
            while (data := one.recv(65_536)) and cuts == self._cuts:
                other.sendall(data)
        if cuts == self._cuts:
            _end(one)
            _end(other)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
