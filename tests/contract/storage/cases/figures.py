"""Figures that only metrics ask for."""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.timeframes import DAY_MS
from app.storage import feeds, figures
from tests.contract.storage.bars import NOW, OLD
from tests.contract.storage.registry import case, hours


@case(figures.oldest_open)
def oldest_open(c: sa.Connection) -> object:
    found = figures.oldest_open(c, OLD)
    assert found and figures.oldest_open(c, NOW + DAY_MS) == {}
    return found


@case(figures.open_holes)
def open_holes(c: sa.Connection) -> object:
    found = figures.open_holes(c)
    assert found and all(count > 0 for count, _ in found.values())
    return {exchange: (count, hours(age_s)) for exchange, (count, age_s) in found.items()}


@case(figures.unverified)
def unverified(c: sa.Connection) -> object:
    found = figures.unverified(c, OLD)
    assert sum(found.values()) > 0
    return found, figures.unverified(c, NOW)


@case(feeds.placed)
def placed(c: sa.Connection) -> object:
    known = feeds.placed(c, 11, 42)
    assert known is not None and feeds.placed(c, 999, 1) is None
    return known._replace(committed_s=None)  # by the clock of each
