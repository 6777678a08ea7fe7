"""Sale conditions of the consolidated tape: what a print of US stocks updates in a bar, and what halts trading.

Sources: the sale condition matrices of the two tapes, CTA's "CTS Pillar Output Specification" (tapes A and B: NYSE and
regional listings) and UTP's "UTP Data Feed Services Specification" (tape C: Nasdaq), columns "Consolidated processing:
update last, high/low, volume"; and Alpaca's list of the conditions its minute bars leave out (docs.alpaca.markets,
"Market Data FAQ: how are bars aggregated"; alpaca.markets/learn/stock-minute-bars), which is what our bars are compared
with. The tapes' rules are for daily statistics; where Alpaca's minute bars differ, Alpaca's rule stands here:

- "last only if it is the first of the day" (G P Z 4, the tapes' note 2) does not set a minute's open or close;
- the corrected consolidated close (9) is a message about the day: it does not enter a minute at all;
- T and U (extended hours) add volume only within the session, but are what regular prints are outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

HIGH_LOW, LAST, VOLUME = 1, 2, 4
ALL = HIGH_LOW | LAST | VOLUME
OUT_OF_SEQUENCE = HIGH_LOW | VOLUME
NOTHING = 0


class Verdict(NamedTuple):
    """What a print updates, as bits, and how many of its conditions are in no table."""

    updates: int
    unknown: int = 0


# On both tapes. CTS writes a regular sale as a blank, UTP as @.
_BOTH: Mapping[str, int] = {
    " ": ALL,  # regular sale
    "@": ALL,  # regular sale
    "A": ALL,  # acquisition
    "C": VOLUME,  # cash sale: settled the same day
    "D": ALL,  # distribution
    "E": ALL,  # automatic execution
    "F": ALL,  # intermarket sweep
    "G": OUT_OF_SEQUENCE,  # bunched sold
    "H": VOLUME,  # price variation
    "I": VOLUME,  # odd lot
    "K": ALL,  # rule 127 or 155
    "L": ALL,  # sold last
    "M": NOTHING,  # market centre's official close: a repeat of the closing print
    "N": VOLUME,  # next day
    "O": ALL,  # opening print
    "P": OUT_OF_SEQUENCE,  # prior reference price
    "Q": NOTHING,  # market centre's official open: a repeat of the opening print
    "R": VOLUME,  # seller: settled later
    "S": ALL,  # split trade
    "T": VOLUME,  # extended hours (form T)
    "U": VOLUME,  # extended hours, sold out of sequence
    "V": VOLUME,  # contingent trade
    "W": VOLUME,  # average price
    "X": ALL,  # cross
    "Y": ALL,  # yellow flag
    "Z": OUT_OF_SEQUENCE,  # sold out of sequence
    "1": ALL,  # stopped stock
    "4": OUT_OF_SEQUENCE,  # derivatively priced
    "5": ALL,  # reopening print
    "6": ALL,  # closing print
    "7": VOLUME,  # qualified contingent trade
    "9": NOTHING,  # corrected consolidated close
}
_CTS: Mapping[str, int] = {**_BOTH, "B": VOLUME}  # average price
_UTP: Mapping[str, int] = {**_BOTH, "B": ALL}  # bunched
_UTP_TAPE = "C"
_EXTENDED = frozenset("TU")


def judge(conditions: Iterable[str], tape: str, *, extended: bool = False) -> Verdict:
    """What a print with these conditions updates: all of them must allow it; an unknown one is taken for regular.

    `extended` says that the print lies outside the session, where T and U are what regular prints are in it.

    >>> judge(("@", "I"), "C").updates == VOLUME
    True
    """
    table, updates, unknown = (_UTP if tape == _UTP_TAPE else _CTS), ALL, 0
    for condition in conditions:
        if extended and condition in _EXTENDED:
            continue
        allowed = table.get(condition)
        if allowed is None:
            unknown += 1
        else:
            updates &= allowed
    return Verdict(updates, unknown)


# Trading statuses by code, CTA's digits and UTP's letters; the rest (indications, imbalances) say nothing of halts.
_HALTS: Mapping[str, bool] = {
    "2": True,  # CTA: trading halt
    "3": False,  # CTA: resume
    "H": True,  # UTP: trading halt
    "P": True,  # UTP: volatility trading pause
    "Q": True,  # UTP: quotation resumption, no trading yet
    "T": False,  # UTP: trading resumption
}


def halted(status_code: str) -> bool | None:
    """Whether trading stands still after a status; None where the status does not tell."""
    return _HALTS.get(status_code)
