"""How Binance reads the parameters of a request, and what it says of bad ones."""

from __future__ import annotations

from collections.abc import Mapping

from app.sandbox.series import MINUTE_US


class Refused(Exception):
    """Raised for a request Binance would refuse; carries status and the body's code and message."""

    def __init__(self, code: int, message: str, *, status: int = 400) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


INTERVALS_MS = {
    name: minutes * MINUTE_US // 1000
    for name, minutes in {
        "1m": 1,
        "3m": 3,
        "5m": 5,
        "15m": 15,
        "30m": 30,
        "1h": 60,
        "2h": 120,
        "4h": 240,
        "6h": 360,
        "8h": 480,
        "12h": 720,
        "1d": 1440,
    }.items()
}


class Params:
    """The parameters of one request."""

    def __init__(self, query: Mapping[str, str], *, known: tuple[str, ...]) -> None:
        self._query = query
        read = sum(name in known for name in query)
        if read < len(query):
            message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(query)}'."
            raise Refused(-1104, message)

    def symbol(self, known: Mapping[str, object]) -> str:
        """The symbol, which must be listed."""
        symbol = self._required("symbol")
        if symbol not in known:
            raise Refused(-1121, "Invalid symbol.")
        return symbol

    def interval_ms(self) -> tuple[str, int]:
        """The interval's name and length."""
        interval = self._required("interval")
        if interval not in INTERVALS_MS:
            raise Refused(-1120, "Invalid interval.")
        return interval, INTERVALS_MS[interval]

    def limit(self) -> int:
        """How many rows: 500 by default, cut to 1000."""
        limit = self.integer("limit")
        if limit == 0:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return 500 if limit is None else min(limit, 1000)

    def integer(self, name: str) -> int | None:
        """A number, None where it was not sent."""
        text = self._query.get(name)
        if text is None:
            return None
        if not text:
            raise Refused(-1105, f"Parameter '{name}' was empty.")
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            message = f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            raise Refused(-1100, message)
        return int(text)

    def _required(self, name: str) -> str:
        text = self._query.get(name)
        if not text:
            message = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            raise Refused(-1102, message)
        return text
