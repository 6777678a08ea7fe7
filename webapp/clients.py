"""One WebSocket client: a bounded queue of frames, and the thread that writes them to its socket."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from loguru import logger

from webapp import frames
from webapp.errors import describe

TRY_AGAIN_LATER, UNSUPPORTED = 1013, 1008
SEND_BUFFER = 256 * 1024  # what the kernel may hold for a client that does not read


class Socket(Protocol):
    """What simple-websocket gives a route: the raw socket and the protocol around it."""

    sock: Any
    pong_received: bool
    connected: bool

    def receive(self, timeout: float | None = None) -> str | bytes: ...
    def close(self, reason: int | None = None, message: str | None = None) -> None: ...


class WholeWrites:
    """A socket whose writes are whole and one at a time.

    simple-websocket answers pings and closes with `send`, which under gevent may write half of a frame, and between
    the halves of somebody else's. Put in place of its socket, this makes each of its writes a locked `sendall`.
    """

    def __init__(self, sock: Any) -> None:
        self._sock, self._lock = sock, threading.Lock()

    def send(self, data: bytes) -> int:
        """Write all of `data`."""
        with self._lock:
            self._sock.sendall(data)
        return len(data)

    sendall = send

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        data: bytes = self._sock.recv(size)
        return data

    def shutdown(self) -> None:
        """End the connection whoever is reading or writing; theirs fails."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            logger.debug("socket was gone already: {}", error)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        number: int = self._sock.fileno()
        return number

    def close(self) -> None:
        """Close the descriptor."""
        self._sock.close()


class Client:
    """A connected browser or bot. `load` gives the frame of a fresh `initial`.

    Offered more than `limit` frames at a time, it is skipped: its queue is emptied and a fresh `initial` takes their
    place. Overrun again before it has caught up, it is closed with 1013.
    """

    def __init__(self, ws: Socket, load: Callable[[], bytes], *, limit: int) -> None:
        self._ws, self._load, self._limit = ws, load, limit
        ws.sock = WholeWrites(ws.sock)
        self._frames: deque[bytes] = deque()
        self._ready = threading.Condition()
        self._refresh = self._skipped = self._gone = False
        self._close: tuple[int, str] | None = None
        self._pinged = False

    def start(self) -> None:
        """Begin to write what is offered."""
        threading.Thread(target=self._write, name="ws-writer", daemon=True).start()

    def offer(self, frame: bytes) -> None:
        """Queue a frame; never blocks."""
        with self._ready:
            if self._gone or self._close:
                return
            if len(self._frames) < self._limit:
                self._frames.append(frame)
            else:
                self._overrun()
            self._ready.notify()

    def refresh(self) -> None:
        """Have a fresh `initial` sent in place of all that waits."""
        with self._ready:
            self._frames.clear()
            self._refresh = True
            self._ready.notify()

    def close(self, code: int, reason: str) -> None:
        """Close once what is queued has been written."""
        with self._ready:
            self._close = self._close or (code, reason)
            self._ready.notify()

    def leave(self) -> None:
        """Stop writing: the connection is over."""
        with self._ready:
            self._gone = True
            self._frames.clear()
            self._ready.notify()

    def ping(self) -> None:
        """Ask whether it lives; one that has not answered the last time is cut off."""
        if self._pinged and not self._ws.pong_received:
            logger.info("client cut off: it answers no ping")
            self._ws.sock.shutdown()
            return
        self._ws.pong_received, self._pinged = False, True
        self.offer(frames.PING)

    def _overrun(self) -> None:
        self._frames.clear()
        if self._skipped:
            logger.info("slow client closed")
            self._close = (TRY_AGAIN_LATER, "too slow: reconnect")
        else:
            logger.info("slow client skipped to the newest")
            self._skipped = self._refresh = True

    def _write(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._ws.sock.sendall(data)
            if self._close and not self._gone:
                self._ws.close(*self._close)
                self._ws.sock.shutdown()
        except OSError as error:
            logger.debug("client went away: {}", error)
            self._ws.sock.shutdown()
        finally:
            self.leave()

    def _next(self) -> bytes | None:
        """What to write next; None when it is time to stop."""
        with self._ready:
            if not self._frames and not self._refresh:
                self._skipped = False  # it has caught up
            while not (self._frames or self._refresh or self._close or self._gone):
                self._ready.wait()
            if self._gone:
                return None
            if not self._refresh:
                data = b"".join(self._frames)
                self._frames.clear()
                return data or None
            self._refresh = False
            self._frames.clear()
        return self._fresh()

    def _fresh(self) -> bytes:
        try:
            return self._load()
        except Exception as error:  # noqa: BLE001  # whatever it is, this client is told, and the others live on
            status, code, text = describe(error)
            logger.opt(exception=error if status == 500 else None).warning("no initial chart: {}", type(error).__name__)
            self.close(TRY_AGAIN_LATER, "try again")
            return frames.error(code, text)
