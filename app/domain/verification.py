"""Verification as values: where our bar and the exchange's own disagree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from app.domain.bars import Bar
from app.domain.compare import differing
from app.domain.timeframes import Timeframe

MISSING = "missing"  # in place of field names: one side has no bar


class Difference(NamedTuple):
    """One bar on which we and the exchange disagree; `ours` and `theirs` as text by field, None without a bar."""

    instrument_id: int
    timeframe: Timeframe
    time_ms: int
    fields: tuple[str, ...]
    ours: dict[str, str] | None
    theirs: dict[str, str] | None


def difference(ours: Bar | None, theirs: Bar | None, tf: Timeframe, fields: Iterable[str]) -> Difference | None:
    """How the two bars of one time differ in `fields`, None where they are equal."""
    compared = tuple(fields)
    if ours is None or theirs is None:
        one = ours or theirs
        if one is None:
            return None
        return Difference(
            one.instrument_id, tf, one.time_ms, (MISSING,), _told(ours, compared), _told(theirs, compared)
        )
    names = tuple(differing(ours, theirs, compared))
    if not names:
        return None
    return Difference(ours.instrument_id, tf, ours.time_ms, names, _told(ours, compared), _told(theirs, compared))


def _told(bar: Bar | None, fields: Iterable[str]) -> dict[str, str] | None:
    return None if bar is None else {name: _text(getattr(bar, name)) for name in fields}


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
