"""The stream's clients and what each listens to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack
import orjson

from app.sandbox.binance.hub import MAX_UNSENT_BYTES, TEXT, ws_frame
from app.wire import alpaca as wire
from app.wire import numbers

type Message = dict[str, Any]

BINARY = 0x82
MAX_IN_FRAME = 200  # messages of one array
BROKEN = {True: b"\x92\x82\xa1T", False: b'[{"T":"t","S":'}  # what a `malformed` fault sends: cut in the middle
EVERYTHING = "*"


class Client:
    """One connection: messages are collected and written at once, as arrays, straight to its transport."""

    def __init__(self, transport: asyncio.Transport, *, feed: str, packed: bool) -> None:
        self._transport = transport
        self.feed, self.packed = feed, packed
        self.silent = False
        self.key = ""  # empty until it has authenticated
        self.channels: dict[str, set[str]] = {name: set() for name in wire.CHANNELS}
        self._out: list[Message] = []

    def hears(self, channel: str, symbol: str) -> bool:
        """Whether it has subscribed to a symbol."""
        listened = self.channels[channel]
        return symbol in listened or EVERYTHING in listened

    def change(self, channels: Mapping[str, Iterable[str]], *, add: bool) -> None:
        """Add symbols to its channels, or take them away."""
        for name, symbols in channels.items():
            if add:
                self.channels[name].update(symbols)
            else:
                self.channels[name].difference_update(symbols)

    def listens(self) -> dict[str, list[str]]:
        """All it has subscribed to; corrections and cancels come with trades."""
        found = {name: sorted(symbols) for name, symbols in self.channels.items()}
        return {**found, **dict.fromkeys(wire.IMPLIED, found["trades"])}

    def queue(self, message: Message) -> None:
        """Send a message with the next flush."""
        if not self.silent:
            self._out.append(message)

    def say(self, message: Message) -> None:
        """Send a message now."""
        self.queue(message)
        self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        out, self._out = self._out, []
        for at in range(0, len(out), MAX_IN_FRAME):
            self.write(self._encode(out[at : at + MAX_IN_FRAME]), BINARY if self.packed else TEXT)

    def write(self, payload: bytes, opcode: int) -> None:
        """Write one frame; who does not read is cut off."""
        if not self._transport.is_closing():
            self._transport.write(ws_frame(payload, opcode))
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()

    def mumble(self) -> None:
        """Send a frame that nobody can read."""
        self.flush()
        if not self.silent:
            self.write(BROKEN[self.packed], BINARY if self.packed else TEXT)

    def cut(self) -> None:
        """End the connection without a word, after what was queued."""
        self.flush()
        self._transport.close()

    def _encode(self, messages: list[Message]) -> bytes:
        return wire.build_frame(messages) if self.packed else orjson.dumps(messages, default=_text)


class Hub:
    """All clients that have authenticated."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def taken(self, feed: str, key: str) -> bool:
        """Whether a key is connected to a feed already: it may be only once."""
        return any(client.feed == feed and client.key == key for client in self.clients)

    def join(self, client: Client, key: str) -> None:
        """Let a client in."""
        client.key = key
        self.clients.append(client)

    def leave(self, client: Client) -> None:
        """Forget a client."""
        if client in self.clients:
            self.clients.remove(client)

    def heard(self, channel: str, symbols: Iterable[str]) -> set[str]:
        """Those of the symbols somebody listens to."""
        wanted = set[str]().union(*(client.channels[channel] for client in self.clients))
        return set(symbols) if EVERYTHING in wanted else wanted.intersection(symbols)

    def listeners(self, channel: str, symbol: str) -> list[Client]:
        """The clients that listen to a symbol."""
        return [client for client in self.clients if client.hears(channel, symbol)]

    def send(self, channel: str, symbol: str, message: Message) -> None:
        """Queue a message for all who listen to it."""
        for client in self.listeners(channel, symbol):
            client.queue(message)

    def flush(self) -> None:
        """Write everything queued."""
        for client in self.clients:
            client.flush()

    def cut_all(self) -> None:
        """End all connections."""
        for client in list(self.clients):
            client.cut()
            self.leave(client)

    def silence_all(self, silent: bool) -> None:
        """Let the clients of now hear nothing any more, or again."""
        for client in self.clients:
            client.flush()
            client.silent = silent


def _text(value: object) -> str:
    if isinstance(value, msgpack.Timestamp):
        return numbers.rfc3339(numbers.time_us_of(value))
    raise TypeError(f"{value!r} is nothing of JSON")
