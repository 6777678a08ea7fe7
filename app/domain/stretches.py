"""Stretches [lo, hi) of time in ms: what is missing of one, what the next request asks for, what an answer settles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

type Stretch = tuple[int, int]


def missing(lo_ms: int, hi_ms: int, held: Iterable[tuple[int, int | None]]) -> list[Stretch]:
    """The parts of [lo, hi) in no held stretch, oldest first; `held` in any order, None as an end is open."""
    found: list[Stretch] = []
    for start, end in sorted(held, key=lambda stretch: stretch[0]):
        if end is not None and end <= start:
            continue  # nothing in it: it would cut what is missing in two
        if start > lo_ms and lo_ms < hi_ms:
            found.append((lo_ms, min(start, hi_ms)))
        lo_ms = max(lo_ms, hi_ms if end is None else end)
    return [*found, (lo_ms, hi_ms)] if lo_ms < hi_ms else found


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time in as few stretches as there can be, oldest first."""
    found: list[Stretch] = []
    for lo_ms, hi_ms in sorted(stretches):
        if found and lo_ms <= found[-1][1]:
            found[-1] = (found[-1][0], max(hi_ms, found[-1][1]))
        elif lo_ms < hi_ms:
            found.append((lo_ms, hi_ms))
    return found


def whole(stretches: Iterable[tuple[int, int | None]], step_ms: int) -> list[tuple[int, int | None]]:
    """The stretches cut to the buckets of `step_ms` that lie wholly inside them."""
    cut = [(-(-lo // step_ms) * step_ms, None if hi is None else hi // step_ms * step_ms) for lo, hi in stretches]
    return [(lo, hi) for lo, hi in cut if hi is None or lo < hi]


def request(todo: Sequence[Stretch], span_ms: int, *, long: bool) -> Stretch:
    """What to ask for next of `todo` (joined, not empty): from its first moment on, at most `span_ms`.

    Small stretches close together go into one request. `long`: the source cuts its answer by itself, so that a longer
    stretch is asked for to its end, and time in which it has nothing costs no request.
    """
    lo_ms, hi_ms = todo[0]
    if hi_ms - lo_ms >= span_ms:
        return lo_ms, hi_ms if long else lo_ms + span_ms
    return lo_ms, max(min(hi, lo_ms + span_ms) for lo, hi in todo if lo < lo_ms + span_ms)


def answered(times: Sequence[int], asked: Stretch, step_ms: int, *, full: bool, solid_ms: int, flats: bool) -> int:
    """Up to when an answer settles what was asked for; `times` are its bars', rising.

    A full page ends with its last bar. What is younger than `solid_ms` the source may bring yet: on an exchange with
    flat bars the first bar missing there ends what is settled, on others `solid_ms` itself does.
    """
    lo_ms, hi_ms = asked
    if full and times:
        hi_ms = min(hi_ms, times[-1] + step_ms)
    if not flats:
        return max(lo_ms, min(hi_ms, solid_ms // step_ms * step_ms))
    there = set(times)
    young = max(lo_ms, solid_ms // step_ms * step_ms)
    return next((time for time in range(young, hi_ms, step_ms) if time not in there), hi_ms)
