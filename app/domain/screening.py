"""The language of screens: `rsi_14<30,close>sma_200,volume>2*volume_sma`; pure, and nothing in it is ever executed.

    screen     = condition {"," condition}
    condition  = term operator term         operator = < <= > >= = !=
    term       = factor {("*" | "/") factor}
    factor     = field | number             from left to right, no brackets

A term is null where one of its fields is, and where it divides by zero; null matches no condition.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from app.domain.screen_fields import FIELDS, OPERATORS
from app.errors import BadInput

MAX_CONDITIONS = 20
MAX_FACTORS = 4
MAX_TERMS = 50  # shown of each instrument: all fields, and some terms
MAX_LENGTH = 1000  # characters of a screen

Values = Mapping[str, float | int | None]
_COMPARE: dict[str, Callable[[float, float], bool]] = dict(
    zip(OPERATORS, (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne), strict=True)
)
_COMPARISON = re.compile(r"(<=|>=|!=|==|=|<|>)")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class BadScreen(BadInput):
    """Raised when a screen cannot be read; its text names the part and says what would do."""


@dataclass(frozen=True, slots=True)
class Term:
    """A product of fields and numbers: `factors[0]`, then each further one with `*` or `/` before it."""

    factors: tuple[str | float, ...]
    operators: tuple[str, ...] = ()  # one fewer than the factors

    def value(self, values: Values) -> float | None:
        """What it comes to for an instrument; None where that cannot be told."""
        found: float | None = None
        for sign, factor in zip(("*", *self.operators), self.factors, strict=True):
            number = values.get(factor) if isinstance(factor, str) else factor
            if number is None or (sign == "/" and number == 0):
                return None
            found = number if found is None else found * number if sign == "*" else found / number
        return found if found is not None and math.isfinite(found) else None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields it is made of."""
        return tuple(factor for factor in self.factors if isinstance(factor, str))

    def __str__(self) -> str:
        words = [factor if isinstance(factor, str) else _written(factor) for factor in self.factors]
        return words[0] + "".join(map("".join, zip(self.operators, words[1:], strict=True)))


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of two terms."""

    left: Term
    operator: str
    right: Term

    def holds(self, values: Values) -> bool:
        """Whether the instrument fits; null never does."""
        left, right = self.left.value(values), self.right.value(values)
        return left is not None and right is not None and _COMPARE[self.operator](left, right)

    @property
    def terms(self) -> tuple[Term, Term]:
        """Both sides."""
        return self.left, self.right

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.right}"


@dataclass(frozen=True, slots=True)
class Order:
    """What to sort by; instruments without it stand last either way."""

    term: Term
    descending: bool = False

    def __str__(self) -> str:
        return f"{'-' if self.descending else ''}{self.term}"


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """The conditions of a screen, none for an empty one; raises BadScreen."""
    if len(text) > MAX_LENGTH:
        raise BadScreen(f"a screen has at most {MAX_LENGTH} characters, this one {len(text)}")
    if not text.strip():
        return ()
    parts = text.split(",")
    if len(parts) > MAX_CONDITIONS:
        raise BadScreen(f"a screen has at most {MAX_CONDITIONS} conditions, this one {len(parts)}")
    return tuple(_condition(part) for part in parts)


def parse_term(text: str) -> Term:
    """One term; raises BadScreen."""
    return _term(text, of=text)


def parse_terms(text: str) -> tuple[Term, ...]:
    """Terms separated by commas, each once; raises BadScreen."""
    if len(text) > MAX_LENGTH:
        raise BadScreen(f"a list of fields has at most {MAX_LENGTH} characters, this one {len(text)}")
    parts = text.split(",") if text.strip() else []
    if len(parts) > MAX_TERMS:
        raise BadScreen(f"a list of fields has at most {MAX_TERMS} of them, this one {len(parts)}")
    return tuple(dict.fromkeys(map(parse_term, parts)))


def parse_order(text: str) -> Order:
    """`-change_24h` or `close/sma_200`; raises BadScreen."""
    if len(text) > MAX_LENGTH:
        raise BadScreen(f"an order has at most {MAX_LENGTH} characters, this one {len(text)}")
    word = text.strip()
    return Order(_with_field(parse_term(word.removeprefix("-")), of=text), word.startswith("-"))


def select(rows: Sequence[Values], conditions: Sequence[Condition]) -> list[int]:
    """The places of the rows that fit all conditions."""
    return [place for place, values in enumerate(rows) if all(condition.holds(values) for condition in conditions)]


def _condition(text: str) -> Condition:
    if not text.strip():
        raise BadScreen("there is an empty condition; a comma stands between two")
    parts = _COMPARISON.split(text)
    if len(parts) == 1:
        raise BadScreen(f"{_quoted(text)} compares nothing; use one of {' '.join(OPERATORS)}")
    if len(parts) > 3:
        raise BadScreen(f"{_quoted(text)} compares more than once; split it with a comma")
    left, sign, right = parts
    found = Condition(_term(left, of=text), "=" if sign == "==" else sign, _term(right, of=text))
    if not (found.left.fields or found.right.fields):
        raise BadScreen(f"{_quoted(text)} names no field")
    return found


def _term(text: str, *, of: str) -> Term:
    words = re.split(r"([*/])", text)
    if len(words) > 2 * MAX_FACTORS - 1:
        raise BadScreen(f"{_quoted(of)}: a term has at most {MAX_FACTORS} factors")
    return Term(tuple(_factor(word, of=of) for word in words[::2]), tuple(words[1::2]))


def _factor(text: str, *, of: str) -> str | float:
    word = text.strip()
    if not word:
        raise BadScreen(f"{_quoted(of)}: a field or a number is missing")
    if _NUMBER.fullmatch(word):
        number = float(word)
        if not math.isfinite(number):
            raise BadScreen(f"{_quoted(of)}: {_quoted(word)} is too large a number")
        return number
    name = word.lower()
    if name in FIELDS:
        return name
    if not _WORD.fullmatch(word):
        raise BadScreen(f"{_quoted(of)}: {_quoted(word)} is neither a field nor a number")
    near = get_close_matches(name[:40], FIELDS, n=1)
    raise BadScreen(f"{_quoted(of)}: there is no field {_quoted(word)}{f'; {near[0]!r} is near it' if near else ''}")


def _with_field(term: Term, *, of: str) -> Term:
    if not term.fields:
        raise BadScreen(f"{_quoted(of)} names no field")
    return term


def _quoted(text: str) -> str:
    word = text.strip()
    return repr(word if len(word) <= 60 else f"{word[:60]}…")


def _written(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
