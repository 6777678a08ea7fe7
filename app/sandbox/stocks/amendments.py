"""What becomes of a stock's prints after the fact: cancels, corrections, and prints reported late, each from its time.

Whoever asks before an amendment's time sees the market without it; whoever asks afterwards sees it as if the wrong
print had never been.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from app.errors import BadInput
from app.sandbox.stocks.prints import CANCELED, CORRECTED, INCORRECT, VALID, Print, Prints, join, prints_of
from app.sandbox.tape import Ints

MAX_AMENDMENTS = 200_000  # of one stock; more are refused


class Kind(StrEnum):
    """What is amended."""

    TRADE = "trade"  # a print by hand, maybe of a time that is past
    LATE = "late_print"  # a print of the tape that nobody was told of until now
    CANCEL = "cancel"
    CORRECT = "correct"


class Amendment(NamedTuple):
    """From `at_us` on: `before` was wrong or not known, `after` is right; None where there is none."""

    at_us: int
    number: int
    kind: Kind
    date_us: int
    before: Print | None
    after: Print | None

    @property
    def time_us(self) -> int:
        """The time of the print it is about."""
        row = self.before or self.after
        return row.time_us if row else self.at_us


class Amendments:
    """All amendments of one stock, in the order of their times."""

    def __init__(self) -> None:
        self._all: list[Amendment] = []
        self._by_day: dict[int, list[Amendment]] = {}
        self.held: set[int] = set()  # ids of the tape's prints that are told late

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def add(self, amendment: Amendment) -> None:
        """Note one more; raises BadInput when there are too many."""
        if len(self._all) >= MAX_AMENDMENTS:
            raise BadInput(f"a stock has at most {MAX_AMENDMENTS} amendments; start the market anew")
        if amendment.kind is Kind.LATE and amendment.before is not None:
            self.held.add(amendment.before.id)
        insort(self._all, amendment)
        insort(self._by_day.setdefault(amendment.date_us, []), amendment)

    def between(self, lo_us: int, hi_us: int) -> list[Amendment]:
        """Those that are told in [lo, hi)."""
        lo, hi = (bisect_left(self._all, (at,)) for at in (lo_us, hi_us))
        return self._all[lo:hi]

    def version(self, date_us: int, now_us: int) -> tuple[int, int]:
        """What tells two states of a day apart: how many are known, how many of them told."""
        day = self._by_day.get(date_us, ())
        return len(day), bisect_left(day, (now_us + 1,)) if day else 0

    def applied(self, prints: Prints, date_us: int, *, span_us: tuple[int, int], now_us: int) -> Prints:
        """The tape's prints of a stretch of a day, as told by `now_us`, wrong ones marked."""
        lo_us, hi_us = span_us
        day = [item for item in self._by_day.get(date_us, ()) if lo_us <= item.time_us < hi_us]
        if not day:
            return prints
        return _apply(prints, day, now_us)


def _apply(prints: Prints, day: Iterable[Amendment], now_us: int) -> Prints:
    mark, keep = prints.mark.copy(), np.ones(len(prints), np.bool_)
    added: dict[int, Print] = {}
    for item in day:
        told = item.at_us <= now_us
        if item.kind is Kind.LATE and item.before is not None:
            keep[_place(prints, item.before.id)] = told
            continue
        if not told or (item.before and not _take_back(item.before.id, item.kind, prints, mark, added)):
            continue
        if item.after is not None:
            added[item.after.id] = item.after._replace(mark=CORRECTED if item.before else VALID)
    kept = Prints(*(column[keep] for column in replace(prints, mark=mark).columns()))
    if not added:
        return kept
    both = join([kept, prints_of(list(added.values()))])
    order = np.argsort(both.time_us, kind="stable")
    return Prints(*(column[order] for column in both.columns()))


def _take_back(number: int, kind: Kind, prints: Prints, mark: Ints, added: dict[int, Print]) -> bool:
    """Mark a print wrong; False where it was taken back before."""
    wrong = INCORRECT if kind is Kind.CORRECT else CANCELED
    if number in added:
        known, added[number] = added[number].mark, added[number]._replace(mark=wrong)
    else:
        place = _place(prints, number)
        known, mark[place] = int(mark[place]), wrong
    return known in (VALID, CORRECTED)


def _place(prints: Prints, number: int) -> int:
    return int(np.searchsorted(prints.id, number))
