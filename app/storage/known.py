"""The instruments that a process has to do with, remembered for some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from app.domain.instruments import Instrument
from app.storage import catalog


@dataclass
class Catalogue:
    """Instruments by id, kept for some seconds; an unknown id asks the database at once."""

    engine: sa.Engine
    keep_s: float = 5.0
    _known: dict[int, Instrument] = field(default_factory=dict)
    _read: float = -1e9

    def __call__(self, ids: Iterable[int]) -> dict[int, Instrument]:
        """The instruments with these ids; one that does not exist is left out."""
        wanted = set(ids)
        if time.monotonic() - self._read > self.keep_s or not wanted <= self._known.keys():
            with self.engine.begin() as connection:
                self._known = {item.id: item for item in catalog.instruments(connection)}
            self._read = time.monotonic()
        return {i: self._known[i] for i in wanted if i in self._known}
