"""WebSocket frames as a server sends them, encoded once for all clients (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct
from typing import Any

import orjson

PING = b"\x89\x00"
_TEXT, _FIN = 0x1, 0x80


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame around UTF-8 bytes."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _FIN | _TEXT, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | _TEXT, 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | _TEXT, 127, size)
    return head + payload


def message(kind: str, data: Any, *, channel: str | None = None) -> bytes:
    """The frame of {"type": kind, "channel": channel, "data": data}; what is of no channel names none."""
    named = {} if channel is None else {"channel": channel}
    return text_frame(orjson.dumps({"type": kind, **named, "data": data}))


def initial(chart: bytes, *, channel: str) -> bytes:
    """The frame of an `initial` message around an answer that is JSON already."""
    return text_frame(b'{"type":"initial","channel":' + orjson.dumps(channel) + b',"data":' + chart + b"}")


def error(code: str, text: str, *, channel: str | None = None) -> bytes:
    """The frame of an `error` message."""
    return message("error", {"code": code, "message": text}, channel=channel)


def answer(kind: str, **fields: Any) -> bytes:
    """The frame that answers a client's message; a field that is None is left out."""
    told = {name: value for name, value in fields.items() if value is not None}
    return text_frame(orjson.dumps({"type": kind, **told}))
