"""The parts of a chart: bars and indicators encoded, from rows or from columns, and joined to an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.domain.bars import Bar, State
from app.domain.indicator_names import INDICATORS
from app.domain.instruments import RULES, Instrument
from app.domain.updates import ORIGIN_NAMES, STATE_NAMES, bar_json
from app.services.encoded import ChartBytes, Column, Elements, EncodedChart, chart_json, tag_of

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count")
_STATES = {state.value: orjson.dumps(name) for state, name in STATE_NAMES.items()}
_ORIGINS = {origin.value: orjson.dumps(name) for origin, name in ORIGIN_NAMES.items()}
_COMPLETED = {state.value: orjson.dumps(state is not State.OPEN) for state in State}


def encoded(instrument: Instrument, bars: Iterable[Bar]) -> Elements:
    """The bars of the instrument."""
    return Elements.of(map(partial(bar_json, delayed=_is_delayed(instrument)), bars))


def encoded_bars(instrument: Instrument, bars: NDArray[np.void]) -> Elements:
    """The same of columns, as storage gives them."""
    states = bars["state"].tolist()
    columns: dict[str, Column] = {name: bars[name] for name in _NUMBERS}
    columns |= {
        "state": [_STATES[state] for state in states],
        "completed": [_COMPLETED[state] for state in states],
        "revision": bars["revision"],
        "origin": [_ORIGINS[origin] for origin in bars["origin"].tolist()],
    }
    if _is_delayed(instrument):
        columns["delayed"] = [b"true"] * len(bars)
    return Elements.of_columns(bars["time"], columns)


def encoded_indicators(rows: NDArray[np.void], names: Sequence[str]) -> Elements:
    """These indicators of the rows."""
    return Elements.of_columns(rows["time"], {name: rows[name] for name in names})


def pick(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows with only these indicators; none where none is asked for."""
    if not names:
        return []
    if tuple(names) == INDICATORS:
        return list(rows)
    return [{"time": row["time"], **{name: row[name] for name in names}} for row in rows]


def joined(
    head: Mapping[str, Any], chart: EncodedChart, *, surplus: int, tail: Elements, new: Elements, whole: bool
) -> ChartBytes:
    """The settled chart without its `surplus` oldest bars, then the tail.

    `new` are the indicators of the tail where the `whole` set is asked for, and else those of the whole answer.
    """
    old = b""
    if whole:
        older = chart.indicators.before(chart.bars.times[surplus]) if surplus else 0
        old = chart.indicators.without(older)
    body = chart_json(head, bars=[chart.bars.without(surplus), tail.data], indicators=[old, new.data])
    cut = orjson.dumps([chart.tag, surplus, whole])
    return ChartBytes(body, tag_of(cut, orjson.dumps(head), tail.data, new.data))


def _is_delayed(instrument: Instrument) -> bool:
    return RULES[instrument.exchange].delay_s > 0
