"""When to ask a source that has to be asked: pure, by exchange time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.sessions import Window, clipped, current, following
from app.domain.timeframes import MINUTE_MS


class Plan(NamedTuple):
    """Whether to ask now, and up to where everything is known (ms) once that is answered, or without asking."""

    ask: bool
    until_ms: int


def plan(
    now_ms: int, until_ms: int, asked_ms: int | None, expected: Sequence[Window], *, lag_ms: int, every_ms: int
) -> Plan:
    """What is due for an instrument that is known up to `until_ms` and was asked for at `asked_ms`.

    `expected` are its market's windows from `until_ms` to some time after now. Inside a window it is asked for every
    `every_ms`; once more when the source, which is `lag_ms` behind, has the window's end; then not before the next.
    """
    source_ms = (now_ms - lag_ms) // MINUTE_MS * MINUTE_MS
    if current(now_ms, expected) is not None:
        due = asked_ms is None or not 0 <= now_ms - asked_ms < every_ms  # the simulated clock may begin anew
        return Plan(due, max(until_ms, source_ms) if due else until_ms)
    after, missing = following(now_ms, expected), clipped(until_ms, now_ms, expected)
    # Where no window is known to follow, the calendar may have ended: nothing is claimed that was not asked for.
    over_ms = after.lo_ms if after is not None else missing[-1].hi_ms if missing else until_ms
    rest_ms = max(until_ms, over_ms)
    if not missing:
        return Plan(False, rest_ms)
    return Plan(True, rest_ms) if missing[-1].hi_ms <= source_ms else Plan(False, until_ms)


def believed(until_ms: int, now_ms: int, expected: Sequence[Window], *, lag_ms: int, slack_ms: int) -> int:
    """`until_ms`, or the newest window's opening where it lies further ahead than any poll until now could bring it.

    A clock that was ahead wrote it, and is put right since. At its word nothing would be asked for until that time has
    come, and what is traded meanwhile never. What lies within `slack_ms`, which is asked for again anyway, is let be:
    the clocks of two workers differ a little.
    """
    begun = [window for window in expected if window.lo_ms <= now_ms]
    if not begun:
        return until_ms
    newest, after = begun[-1], following(now_ms, expected)
    if now_ms < newest.hi_ms:
        most_ms = max(newest.lo_ms, now_ms - lag_ms)
    else:
        most_ms = after.lo_ms if after is not None else now_ms
    return newest.lo_ms if until_ms > most_ms + slack_ms else until_ms


def behind(until_ms: int, now_ms: int, expected: Sequence[Window], *, lag_ms: int) -> list[Window]:
    """The stretches the source must have by now and we have not asked for."""
    return clipped(until_ms, (now_ms - lag_ms) // MINUTE_MS * MINUTE_MS, expected)


def again_from(
    until_ms: int, source_ms: int, expected: Sequence[Window], *, overlap_ms: int, last_ms: int | None = None
) -> int:
    """Where to ask from so that what a source revised, or listed late, comes once more.

    That is the last `overlap_ms` of the open market before `until_ms`; everything since the newest bar we have, at
    `last_ms`, since a source that stood still lists the minutes behind it in retrospect; and a window that is over, of
    which the source is at `source_ms` to have everything, from its opening.
    """
    open_before = [window for window in expected if window.lo_ms < until_ms]
    again_ms = until_ms - overlap_ms
    if open_before:
        again_ms = max(open_before[-1].lo_ms, min(open_before[-1].hi_ms, until_ms) - overlap_ms)
    ended = (window.lo_ms for window in expected if until_ms < window.hi_ms <= source_ms)
    return min(again_ms, next(ended, again_ms), again_ms if last_ms is None else last_ms)


def length_ms(stretches: Sequence[Window]) -> int:
    """How long they are together."""
    return sum(window.hi_ms - window.lo_ms for window in stretches)
