"""What a print with which conditions updates, by the consolidated tape's own tables.

Sources: CTA, Consolidated Tape System multicast output specification, "sale conditions and consolidated processing";
UTP Plan, trade data feed specification, appendix "sale condition matrix". A print with several conditions updates
what all of them allow. Written apart from the platform's table, which is measured by it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

OPEN_CLOSE, HIGH_LOW, VOLUME = 1, 2, 4
EVERYTHING, NOTHING = OPEN_CLOSE | HIGH_LOW | VOLUME, 0

# Regular, acquisition, bunched, automatic, intermarket sweep, rule 127/155, sold last, opening, distribution or split,
# cross, stopped, reopening, closing; ' ' is New York's regular sale.
_ALL = "@ ABDEFKLOSXY1356"
# Cash, odd lot, next day, price variation, seller, contingent, average price (UTP), qualified contingent, extended.
_VOLUME_ONLY = "CINHRVW7TU"
# Sold out of sequence, prior reference price, derivatively priced, bunched sold.
_NO_OPEN_CLOSE = "ZP4G"
# Official close, official open, corrected close.
_NOTHING = "MQ9"

_TABLE = {
    **dict.fromkeys(_ALL, EVERYTHING),
    **dict.fromkeys(_VOLUME_ONLY, VOLUME),
    **dict.fromkeys(_NO_OPEN_CLOSE, HIGH_LOW | VOLUME),
    **dict.fromkeys(_NOTHING, NOTHING),
}
_LETTERS = 8  # conditions a packed number holds


def pack(*conditions: str) -> int:
    """The conditions as one number: a byte each, the first highest."""
    packed = 0
    for letter in conditions:
        packed = packed << 8 | ord(letter)
    return packed


@lru_cache(maxsize=512)
def unpack(packed: int) -> tuple[str, ...]:
    """The conditions of a packed number."""
    size = (packed.bit_length() + 7) // 8
    return tuple(map(chr, packed.to_bytes(size, "big")))


def known(conditions: tuple[str, ...]) -> bool:
    """Whether these are conditions of the tape."""
    return 0 < len(conditions) < _LETTERS and all(letter in _TABLE for letter in conditions)


@lru_cache(maxsize=1024)
def effect(packed: int, tape: str, *, extended: bool) -> int:
    """What a print updates; outside the session an extended-hours sale counts like a regular one."""
    allowed = EVERYTHING
    for letter in unpack(packed):
        if extended and letter in "TU":
            continue
        if letter == "B" and tape in "AB":  # New York's tape calls the average price so, Nasdaq's a bunched trade
            allowed &= VOLUME
        else:
            allowed &= _TABLE[letter]
    return allowed


def effects(packed: NDArray[np.int64], extended: NDArray[np.bool_], tape: str) -> NDArray[np.int64]:
    """What each of many prints updates."""
    codes, place = np.unique(packed, return_inverse=True)
    inside = np.array([effect(code, tape, extended=False) for code in codes.tolist()], np.int64)
    outside = np.array([effect(code, tape, extended=True) for code in codes.tolist()], np.int64)
    if not len(codes):
        return inside
    found: NDArray[np.int64] = np.where(extended, outside[place], inside[place])
    return found
