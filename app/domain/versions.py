"""Versions: what has to stay the same for an answer about an instrument to be given again."""

from __future__ import annotations

from typing import NamedTuple


class Versions(NamedTuple):
    """Tokens that change with the watchlist, with stored bars and indicators, and with every message about the bars.

    Empty ones stand for what nobody knows: nothing may be kept under them.
    """

    watchlist: bytes = b""
    generation: bytes = b""
    live: bytes = b""

    @property
    def known(self) -> bool:
        """Whether every one is known."""
        return all(self)
