"""The bar of a longer timeframe from the bars inside it, by the one aggregation table; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.domain.bars import AGGREGATION, Bar, Origin, State
from app.domain.timeframes import Timeframe

_FOLD: dict[str, Callable[[Sequence[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "max": max,
    "min": min,
    "sum": lambda values: sum(values[1:], values[0]),
}


def combine(parts: Sequence[Bar], time_ms: int) -> Bar:
    """One bar at `time_ms` from its parts, oldest first; flat parts count only where all are flat."""
    traded = [part for part in parts if part.trade_count] or list(parts)
    values = {name: _FOLD[rule]([getattr(part, name) for part in traded]) for name, rule in AGGREGATION.items()}
    return Bar(
        instrument_id=parts[0].instrument_id,
        time_ms=time_ms,
        **values,
        state=State.OPEN,
        revision=max(part.revision for part in parts),
        origin=Origin.ROLLUP,
    )


def live_bar(base: Bar | None, minutes: Sequence[Bar], tf: Timeframe) -> Bar | None:
    """The newest bar of `tf` as it stands this moment, or None where nothing is known.

    `base` is the newest stored bar of `tf`, the roll-up of closed minutes; `minutes` are 1m bars, oldest first. A
    minute belongs to the bar when it lies in its bucket and its first trade comes after the last one the base
    holds, so that a minute already rolled up is never added twice, in whatever order the two became known.
    """
    if not minutes:
        return base
    if tf is Timeframe.M1:
        return minutes[-1]
    bucket = tf.floor(minutes[-1].time_ms)
    if base is not None and base.time_ms > bucket:
        return base
    if base is not None and base.time_ms < bucket:
        base = None
    inside = [bar for bar in minutes if bar.time_ms >= bucket and (base is None or _after(bar, base))]
    if base is None:
        return combine(inside, bucket)
    if not inside:
        return base
    return replace(combine([base, *inside], bucket), revision=base.revision)


def _after(minute: Bar, base: Bar) -> bool:
    if minute.trade_count == 0:
        return False  # a quiet minute adds nothing to a bar that stands
    if base.trade_count == 0:
        return True
    return (minute.open_time, minute.open_seq) > (base.close_time, base.close_seq)
