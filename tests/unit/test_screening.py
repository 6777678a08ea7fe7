"""The language of screens: what it means, that it never breaks, and that what it writes it reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.indicator_names import INDICATORS
from app.domain.screen_fields import DAY_FIELDS, FIELDS, OPERATORS, PRESETS
from app.domain.screening import (
    MAX_CONDITIONS,
    BadScreen,
    Condition,
    Order,
    Term,
    parse_conditions,
    parse_order,
    parse_term,
    parse_terms,
    select,
)
from app.domain.timeframes import Timeframe
from app.services.screener import Screen

NAMES = st.sampled_from(sorted(FIELDS))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
FACTORS = st.lists(NAMES | NUMBERS, min_size=1, max_size=4)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    factors = draw(FACTORS)
    signs = draw(st.lists(st.sampled_from("*/"), min_size=len(factors) - 1, max_size=len(factors) - 1))
    return Term(tuple(factors), tuple(signs))


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    left = draw(terms().filter(lambda term: bool(term.fields)))
    return Condition(left, draw(st.sampled_from(OPERATORS)), draw(terms()))


@given(st.lists(conditions(), max_size=4))
def test_what_is_written_is_read_back(screen: list[Condition]) -> None:
    text = ",".join(map(str, screen))
    assert list(parse_conditions(text)) == screen


@given(terms().filter(lambda term: bool(term.fields)), st.booleans())
def test_an_order_is_read_back(term: Term, descending: bool) -> None:
    if str(term).startswith("-"):
        return  # `--1*close` is no order: the sign is that of the order
    assert parse_order(str(Order(term, descending))) == Order(term, descending)


@given(st.text(max_size=80) | st.text("rsi_14<>=!*/.,0123456789eE+- ()'\";", max_size=60))
@example("rsi_14<1e999")
@example("__import__('os').system('true')<1")
@example("1;DROP TABLE candles_1m<2")
@example("close<" + "9" * 400)
@example("close<٣")
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for parse in (parse_conditions, parse_term, parse_terms, parse_order):
        try:
            parse(text)
        except BadScreen as error:
            assert str(error)


@given(st.lists(conditions(), max_size=3), st.dictionaries(NAMES, st.none() | NUMBERS))
def test_any_values_can_be_judged(screen: list[Condition], values: dict[str, float | None]) -> None:
    for condition in screen:
        named = {name for term in condition.terms for name in term.fields}
        if any(values.get(name) is None for name in named):
            assert not condition.holds(values)
        for term in condition.terms:
            value = term.value(values)
            assert value is None or math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("rsi_14<30", True),
        ("RSI_14 < 30", True),
        ("rsi_14<=28", True),
        ("rsi_14<28", False),
        ("close>sma_200", True),
        ("volume>2*volume_sma", True),
        ("volume>volume_sma*3.1", False),
        ("close/sma_200>1.04", True),
        ("close/sma_200>1.06", False),
        ("change_24h=-1.5", True),
        ("change_24h==-1.5,close!=105", False),
        ("macd>0", False),  # null
        ("macd!=0", False),
        ("macd!=macd_signal", False),
        ("close/trade_count>0", False),  # by zero
        ("2*close*2/sma_200>4", True),
        ("30>rsi_14", True),
        ("", True),
    ],
)
def test_a_screen_means_what_it_says(text: str, fits: bool) -> None:
    values = {
        "rsi_14": 28.0, "close": 105.0, "sma_200": 100.0, "volume": 30.0, "volume_sma": 10.0, "change_24h": -1.5,
        "macd": None, "trade_count": 0,
    }  # fmt: skip
    assert select([values], parse_conditions(text)) == ([0] if fits else [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rsi14<30", "'rsi14<30': there is no field 'rsi14'; 'rsi_14' is near it"),
        ("rsi_14<", "'rsi_14<': a field or a number is missing"),
        ("<30", "'<30': a field or a number is missing"),
        ("rsi_14", "'rsi_14' compares nothing; use one of < <= > >= = !="),
        ("0<rsi_14<30", "'0<rsi_14<30' compares more than once; split it with a comma"),
        ("1<2", "'1<2' names no field"),
        ("close>(sma_20)", "'close>(sma_20)': '(sma_20)' is neither a field nor a number"),
        ("close>1e999", "'close>1e999': '1e999' is too large a number"),
        ("close>sma_20,", "there is an empty condition; a comma stands between two"),
        ("close>2*2*2*2*sma_20", "'close>2*2*2*2*sma_20': a term has at most 4 factors"),
        (",".join(["close>1"] * (MAX_CONDITIONS + 1)), "a screen has at most 20 conditions, this one 21"),
        ("close>" + "1" * 2000, "a screen has at most 1000 characters, this one 2006"),
    ],
)
def test_an_error_names_the_part_and_the_remedy(text: str, words: str) -> None:
    with pytest.raises(BadScreen) as refused:
        parse_conditions(text)
    assert str(refused.value) == words


def test_no_list_of_fields_costs_every_client_half_a_second() -> None:
    assert len(parse_terms(",".join(FIELDS))) == len(FIELDS)
    with pytest.raises(BadScreen, match="at most 50 of them, this one 257"):
        parse_terms(",".join(map(str, range(257))))


def test_every_field_and_preset_can_be_used() -> None:
    assert set(INDICATORS) < set(FIELDS)
    assert len({preset.id for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert ",".join(map(str, parse_conditions(preset.where))) == preset.where
        assert str(parse_order(preset.sort)) == preset.sort


def test_a_row_shows_what_the_screen_is_about() -> None:
    screen = Screen(Timeframe.H1, parse_conditions("rsi_14<30,close/sma_200>1"), parse_order("-close/sma_200"))
    assert [str(term) for term in screen.terms] == [
        "price", "change_24h", "volume_24h", "close/sma_200", "rsi_14", "close", "sma_200",
    ]  # fmt: skip
    chosen = Screen(Timeframe.H1, parse_conditions("rsi_14<30"), None, parse_terms("vwap, close/vwap"))
    assert [str(term) for term in chosen.terms] == ["vwap", "close/vwap", "rsi_14"]
    assert {field.name for field in DAY_FIELDS} <= set(FIELDS)
