"""A socket for simple-websocket whose writes are whole, and whose reads can be held up by nobody but its own client."""

from __future__ import annotations

import _thread
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

UNREAD = 64  # messages that may wait to be looked at; then the client is not read, and its own writes wait
PAUSE_S = 0.02  # between two reads of a client that sends without a stop: 200 kB a second
NOTHING, WHOLE, PART = 0, 1, 2  # of a frame, that was written
_AT_ONCE = int(socket.MSG_DONTWAIT)  # an IntFlag is dearer to hand to the system call
LINGER_S, LINGER_BYTES = 1.0, 1 << 20  # what is still read after the closing frame, so that it can arrive


class Reading:
    """The thread in which simple-websocket reads, without what threading.Thread adds to each: 2,000 are a lot."""

    __slots__ = ("_target", "name")

    def __init__(self, *, target: Callable[[], None]) -> None:
        self._target, self.name = target, ""

    def start(self) -> None:
        """Begin, without waiting for it."""
        _thread.start_new_thread(self._target, ())


class WholeSocket:
    """Stands in place of the raw socket.

    simple-websocket answers pings and closes with `send`, which under gevent may write half of a frame, and between
    the halves of somebody else's: each write here is a locked `sendall`. It also reads as fast as a client sends, which
    under gevent keeps everybody else waiting, and into a list without a bound: here a read waits.
    """

    __slots__ = ("_full", "_lock", "_sock", "_take", "_unread", "rest")

    def __init__(self, sock: Any, *, unread: Callable[[], int]) -> None:
        self._sock, self._lock, self._unread = sock, threading.Lock(), unread
        # Under gevent the real socket, which does not block; TLS has no write that takes what it can.
        direct = None if isinstance(sock, ssl.SSLSocket) else getattr(sock, "_sock", sock)
        self._take: Callable[[bytes, int], int] | None = None if direct is None else direct.send
        self._full = False
        self.rest = b""  # what is left of a frame that the kernel took in part

    def send(self, data: bytes) -> int:
        """Write all of `data`."""
        with self._lock:
            rest, self.rest = self.rest, b""
            self._sock.sendall(rest + data if rest else data)
        return len(data)

    sendall = send

    def write_now(self, data: bytes) -> int:
        """Write what can be written without waiting, and keep the rest for the next write: NOTHING, WHOLE or PART.

        Each delivery to each client is one call of this, so it is kept short.
        """
        take, lock = self._take, self._lock
        if take is None or not lock.acquire(False):  # by name it costs a tenth of all this
            return NOTHING
        try:
            if self.rest:
                return NOTHING
            taken = take(data, _AT_ONCE)
            if taken == len(data):
                return WHOLE
            self.rest = data[taken:]
        except OSError:  # full, or dead: the writer that waits will tell which
            return NOTHING
        finally:
            lock.release()
        return PART

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes, once the messages read before have been looked at."""
        while self._full or self._unread() >= UNREAD:
            self._full = False
            time.sleep(PAUSE_S)
        data: bytes = self._sock.recv(size)
        self._full = len(data) == size
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
        """Close the descriptor, once the client's rest was read for a moment: else the kernel drops our last frame."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            end, left = time.monotonic() + LINGER_S, LINGER_BYTES
            while left > 0 and (wait_s := end - time.monotonic()) > 0:
                self._sock.settimeout(wait_s)
                data = self._sock.recv(65_536)
                if not data:
                    break
                left -= len(data)
        except OSError as error:
            logger.debug("socket closed in a hurry: {}", error)
        finally:
            self._sock.close()
