"""Takes secrets out of what is logged: known ones by their value, unknown ones by the way they are written."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from app.config import Settings

GONE = "***"
LEAST = 4  # a shorter secret would cut holes into every text
DEEPEST, MOST_ITEMS = 4, 200  # of a field's value

_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):([^\s@/]+)@")
_NAMES = r"token|secret|passwd|password|api[_-]?key|secret[_-]?key|authorization|cookie"
# name=value and 'name': 'value'; after a bare colon only in a header: prose has "a token: …".
_NAMED = re.compile(
    rf"((?:{_NAMES})(?:[\"']?\s*=\s*[\"']?|[\"']\s*:\s*b?[\"']))((?:bearer|basic)\s+)?([^\s\"'&,;)}}\]]{{{LEAST},}})",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|x-mbx-apikey|apca-api-(?:key-id|secret-key)|(?:set-)?cookie)"
    r"([\"']?\s*[:=,]\s*(?:b(?=[\"']))?[\"']?)((?:bearer|basic)\s+)?([^\s\"']+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/-]{8,}=*", re.IGNORECASE)
_BASIC = re.compile(r"\b([Bb]asic\s+)(?=[A-Za-z+/]*[0-9+/=])[A-Za-z0-9+/]{8,}={0,2}")
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")
_SECRET_NAME = re.compile(rf"(?:^|[_-])(?:{_NAMES}|apikey)s?$|apca-api-key-id", re.IGNORECASE)


class Redactor:
    """Replaces secrets in a text: the values the settings hold, and whatever is written like one."""

    def __init__(self, settings: Settings) -> None:
        secrets: set[str] = set()
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                secrets.add(value.get_secret_value())
            elif name.endswith("_api_key"):
                secrets.add(value)
            elif name.endswith("_url"):
                secrets.update(found[1] for found in _URL_PASSWORD.findall(value))
        written = {form for text in secrets for form in (text, quote(text, safe=""), json.dumps(text)[1:-1])}
        # Longest first: a secret that contains another one goes as a whole.
        self._secrets = sorted((text for text in written if len(text) >= LEAST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, GONE)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{GONE}@", text)
        text = _HEADER.sub(rf"\1\2\3{GONE}", text)
        text = _NAMED.sub(rf"\1\2{GONE}", text)
        text = _BEARER.sub(rf"\1{GONE}", text)
        text = _BASIC.sub(rf"\1{GONE}", text)
        return _JWT.sub(GONE, text) if "eyJ" in text else text

    def field(self, name: str, value: Any, *, depth: int = 0) -> Any:
        """A field's value as JSON has it, secrets out; one whose name says that it is a secret goes as a whole."""
        if _SECRET_NAME.search(name) and value not in (None, "", False):
            return GONE
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else str(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"{len(value)} bytes"
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, dict) and depth < DEEPEST:
            items = list(value.items())[:MOST_ITEMS]
            return {self(str(key)): self.field(str(key), part, depth=depth + 1) for key, part in items}
        if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
            return [self.field("", part, depth=depth + 1) for part in list(value)[:MOST_ITEMS]]
        return self(str(value))
