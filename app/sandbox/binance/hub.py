"""The stream's connections and what each is subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

MAX_UNSENT_BYTES = 32 * 2**20  # a client that reads no more than that behind is cut off, as the exchange does

TEXT, PING, PONG = 0x81, 0x89, 0x8A


def ws_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """The payload as one unmasked server frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


class Connection:
    """One client: frames are collected and written at once, whole, straight to its transport."""

    def __init__(self, transport: asyncio.Transport, *, combined: bool) -> None:
        self._transport = transport
        self.combined = combined
        self.silent = False
        self.streams: dict[str, None] = {}
        self._out: list[bytes] = []

    def queue(self, frame: bytes) -> None:
        """Send `frame` with the next flush."""
        if not self.silent:
            self._out.append(frame)

    def flush(self) -> None:
        """Write what is queued."""
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()
        self._out.clear()

    def cut(self) -> None:
        """End the connection without a word, after what was queued."""
        self.flush()
        self._transport.close()


class Hub:
    """All connections, by stream."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.by_stream: dict[str, set[Connection]] = {}

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        """Add streams to a connection."""
        self.connections.add(connection)
        for stream in streams:
            connection.streams[stream] = None
            self.by_stream.setdefault(stream, set()).add(connection)

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        """Take streams from a connection."""
        for stream in streams:
            connection.streams.pop(stream, None)
            listeners = self.by_stream.get(stream)
            if listeners is not None:
                listeners.discard(connection)
                if not listeners:
                    del self.by_stream[stream]

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self.unsubscribe(connection, list(connection.streams))
        self.connections.discard(connection)

    def send(self, stream: str, payload: bytes) -> None:
        """Queue an event for all who listen to `stream`, encoded once for each form."""
        plain = wrapped = b""
        for connection in self.by_stream.get(stream, ()):
            if connection.combined:
                wrapped = wrapped or ws_frame(b'{"stream":"%b","data":%b}' % (stream.encode(), payload))
                connection.queue(wrapped)
            else:
                plain = plain or ws_frame(payload)
                connection.queue(plain)

    def flush(self) -> None:
        """Write everything queued."""
        for connection in self.connections:
            connection.flush()

    def announce(self, payload: bytes) -> None:
        """Queue an event of no stream for everybody."""
        frame = ws_frame(payload)
        for connection in self.connections:
            connection.queue(frame)

    def cut(self, connections: Iterable[Connection]) -> None:
        """End these connections, as far as they are still there."""
        for connection in self.connections.intersection(connections):
            connection.cut()
            self.leave(connection)

    def cut_all(self) -> None:
        """End all connections."""
        self.cut(list(self.connections))

    def silence_all(self, silent: bool) -> None:
        """Let the connections of now say nothing any more, or speak again."""
        for connection in self.connections:
            connection.flush()
            connection.silent = silent
