"""The consolidated tape's table, against the lists Alpaca gives of what its minute bars leave out."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.conditions import ALL, HIGH_LOW, LAST, VOLUME, halted, judge

KNOWN = " @ACDEFGHIKLMNOPQRSTUVWXYZ145679"
# As users rebuild Alpaca's bars from its trades (UTP): what may not set open and close, high and low, volume.
NO_LAST = frozenset("CGHIMNPQRTUVWZ479")
NO_HIGH_LOW = frozenset("CHIMNQRTUVW79")
NO_VOLUME = frozenset("MQ9")


@pytest.mark.parametrize("condition", list(KNOWN))
@pytest.mark.parametrize("tape", ["A", "B", "C"])
def test_each_condition_is_as_listed(condition: str, tape: str) -> None:
    verdict = judge((condition,), tape)
    assert verdict.unknown == 0
    assert bool(verdict.updates & LAST) == (condition not in NO_LAST)
    assert bool(verdict.updates & HIGH_LOW) == (condition not in NO_HIGH_LOW)
    assert bool(verdict.updates & VOLUME) == (condition not in NO_VOLUME)


def test_b_is_an_average_price_on_cts_and_bunched_on_utp() -> None:
    assert [judge(("B",), tape).updates for tape in "ABC"] == [VOLUME, VOLUME, ALL]


@given(st.lists(st.sampled_from(KNOWN + "B"), max_size=4), st.sampled_from("ABC"), st.booleans())
def test_several_conditions_allow_what_all_of_them_allow(codes: list[str], tape: str, extended: bool) -> None:
    allowed = ALL
    for code in codes:
        allowed &= judge((code,), tape, extended=extended).updates
    assert judge(codes, tape, extended=extended) == (allowed, 0)


def test_prints_of_extended_hours_are_regular_where_those_are_kept() -> None:
    assert judge(("@", "T"), "C").updates == judge(("@", "U"), "C").updates == VOLUME
    assert judge(("@", "T"), "C", extended=True).updates == judge(("@", "U"), "C", extended=True).updates == ALL
    assert judge(("@", "T", "I"), "C", extended=True).updates == VOLUME


@pytest.mark.parametrize("code", [c for c in string.printable if c not in KNOWN + "B"] + ["@I", "é"])
def test_an_unknown_condition_is_regular_and_counted(code: str) -> None:
    assert judge((code,), "A") == (ALL, 1)
    assert judge((code, "I", code), "C") == (VOLUME, 2)


def test_what_halts() -> None:
    assert [halted(code) for code in "2HPQ"] == [True] * 4
    assert [halted(code) for code in "3T"] == [False] * 2
    assert [halted(code) for code in ("5", "E", "", "x")] == [None] * 4
