"""The law of the limits, in Python: a budget a minute, rests, a breaker; and what `Limited` tells of each outcome."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.account import FAILURES, LONGEST_MS, PAUSE_MS, PROBE_MS, Account
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import BadRange, Forbidden, PlatformError, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.sources.limited import Absent, Limited

BTC = Instrument(4, Exchange.BINANCE, "BTC/USDT", "BTCUSDT", "crypto", "USDT", "24/7", True, 2)
NOW = 1_700_000_000_000
BUDGET = 50


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 20)), max_size=120))
def test_no_sixty_seconds_hold_more_than_the_budget(asked: list[tuple[int, int]]) -> None:
    """Whenever what is asked for, any window of a minute keeps the budget, and waiting as told is enough."""
    account, now, granted = Account(), NOW, list[tuple[int, int]]()
    for pause, weight in asked:
        now += pause
        verdict = account.spend(now, weight, BUDGET)
        if verdict.wait_ms:
            assert verdict.why == "spent" and verdict.wait_ms <= 61_000
            now += verdict.wait_ms
            assert account.spend(now, weight, BUDGET).wait_ms == 0
        granted.append((now, weight))
    for end, _ in granted:
        assert sum(weight for at, weight in granted if end - 60_000 < at <= end) <= BUDGET


def test_a_request_over_the_whole_budget_waits_for_an_empty_minute() -> None:
    """It is not refused for ever: it goes when nothing else was spent."""
    account = Account()
    assert account.spend(NOW, 2 * BUDGET, BUDGET).wait_ms == 0
    verdict = account.spend(NOW, 2 * BUDGET, BUDGET)
    assert verdict.wait_ms == 61_000
    assert account.spend(NOW + verdict.wait_ms, 2 * BUDGET, BUDGET).wait_ms == 0


def test_the_sources_own_count_is_taken_over_where_it_is_higher() -> None:
    """Others at our address spend there too."""
    account = Account()
    account.spend(NOW, 10, BUDGET)
    account.used(NOW, 5)
    assert account.spend(NOW, 40, BUDGET).wait_ms == 0
    account = Account()
    account.used(NOW, 45)
    assert account.spend(NOW, 6, BUDGET).wait_ms > 0
    assert account.spend(NOW, 5, BUDGET).wait_ms == 0


def test_the_breaker_opens_tries_once_and_doubles() -> None:
    """Five failures in a row open it for 10 s; then one request tries; its failure doubles the pause, to 300 s."""
    account, now = Account(), NOW
    for _ in range(FAILURES - 1):
        account.failed(now)
    assert account.spend(now, 1, BUDGET).wait_ms == 0
    account.failed(now)
    pauses = []
    for _ in range(8):
        verdict = account.spend(now, 1, BUDGET)
        pauses.append(verdict.wait_ms)
        assert verdict.why == "open"
        now += verdict.wait_ms
        assert account.spend(now, 1, BUDGET).wait_ms == 0
        assert account.spend(now, 1, BUDGET).why == "open", "only one request may try"
        account.failed(now)
    assert pauses == [min(PAUSE_MS * 2**k, LONGEST_MS) for k in range(8)]
    now += LONGEST_MS
    assert account.spend(now, 1, BUDGET).wait_ms == 0
    account.answered()
    assert account.spend(now, 1, BUDGET).wait_ms == 0
    account.failed(now)
    assert account.spend(now, 1, BUDGET).wait_ms == 0, "a success forgets the failures before it"


def test_a_probe_that_never_comes_back_does_not_block_for_ever() -> None:
    """The process that tried may have died: after a while another tries."""
    account = Account()
    for _ in range(FAILURES):
        account.failed(NOW)
    tried = NOW + PAUSE_MS
    assert account.spend(tried, 1, BUDGET).wait_ms == 0
    assert account.spend(tried + PROBE_MS - 1, 1, BUDGET).wait_ms == 1
    assert account.spend(tried + PROBE_MS, 1, BUDGET).wait_ms == 0


class Told:
    """Limits that only remember what they were told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def spend(self, source: str, weight: int, *, per_minute: int) -> None:
        self.calls.append(("spend", weight, per_minute))

    def used(self, source: str, weight: int) -> None:
        self.calls.append(("used", weight))

    def rest(self, source: str, seconds: float) -> None:
        self.calls.append(("rest", seconds))

    def failed(self, source: str) -> None:
        self.calls.append(("failed",))

    def answered(self, source: str) -> None:
        self.calls.append(("answered",))


class Failing:
    """A source that raises."""

    def __init__(self, error: PlatformError) -> None:
        self.error = error

    def klines(self, *_: Any) -> list[Any]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "told", "counted"),
    [
        (RateLimited("wait", retry_after_s=7), [("rest", 7), ("answered",)], {"binance_rate_limited": 1}),
        (SourceAway("away"), [("failed",)], {"binance_away": 1}),
        (UnknownInstrument("who"), [("answered",)], {"binance_refused": 1}),
        (SourceError("no"), [("answered",)], {"binance_refused": 1}),
        (Forbidden("no"), [("answered",)], {"binance_refused": 1}),
        (BadRange("ours"), [], {}),
    ],
)
def test_each_outcome_is_told_to_all_and_counted(
    error: PlatformError, told: list[tuple[Any, ...]], counted: dict[str, int]
) -> None:
    """A rest for a refusal to serve more, a failure for no answer; a refused question is an answer."""
    limits, counts = Told(), Counter[str]()

    def count(reason: str) -> None:
        counts[reason] += 1

    limited = Limited(Failing(error), limits, "binance", 100, weight=lambda *_: 3, count=count)
    with pytest.raises(type(error)):
        limited.klines(BTC, Timeframe.M1, 0, 60_000)
    assert limits.calls == [("spend", 3, 100), *told]
    assert counts == counted


def test_an_absent_source_says_why() -> None:
    """Forbidden, with the remedy."""
    with pytest.raises(Forbidden, match="set ALPACA_API_KEY"):
        Absent("Alpaca needs a key: set ALPACA_API_KEY").klines(BTC, Timeframe.M1, 0, 60_000)
