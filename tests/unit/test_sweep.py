"""The sweep's rounds: minutes that history never lists hold up no later one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.domain.bars import Bar, State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS
from app.errors import SourceAway
from app.services import sweep as module
from app.services.sweep import CHUNK, REST_MOST_S, REST_S, Sweep
from tests.unit.test_review_sources import BITCOIN, NOW_MS, item, swept

ETHER = item(2, BITCOIN.exchange, "ETH/USDT")


def ago(minutes: int) -> int:
    return NOW_MS - minutes * MINUTE_MS


@dataclass
class Halted:
    """Closed bars without the exchange's word, and a history that lists none of some minutes, as in a halt."""

    closed: dict[int, set[int]]
    unlisted: set[int]
    now_s: float = 1000.0
    away: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    def unverified(self, _: object, *, resting: Iterable[int], limit: int, **__: Any) -> list[tuple[int, int, int]]:
        waiting = {i: times for i, times in self.closed.items() if times and i not in set(resting)}
        found = sorted((min(times), i, max(times)) for i, times in waiting.items())
        return [(i, first, last) for first, i, last in found][:limit]

    def unchecked(self, *_: Any, **__: Any) -> list[tuple[int, int, int]]:
        return []

    def klines(self, instrument: Instrument, _: object, lo_ms: int, end_ms: int, limit: int) -> list[Bar]:
        self.asked.append((instrument.id, (lo_ms - NOW_MS) // MINUTE_MS))
        assert (end_ms - lo_ms) // MINUTE_MS <= limit
        if self.away:
            raise SourceAway("nobody there")
        minutes = range(lo_ms, end_ms, MINUTE_MS)
        return [bar(t) for t in minutes if instrument is not BITCOIN or t not in self.unlisted]

    def read_many(self, _: object, ids: Iterable[int], *__: Any, start_ms: int, end_ms: int) -> list[Bar]:
        return [bar(t) for i in ids for t in self.closed[i] if start_ms <= t < end_ms]

    def take(self, _: object, instrument: Instrument, bars: Iterable[Bar], **__: Any) -> int:
        self.closed[instrument.id] -= {one.time_ms for one in bars}
        return 0

    def turns(self, sweep: Sweep, n: int, *, every_s: float = 5.0) -> None:
        for _ in range(n):
            sweep.run()
            self.now_s += every_s


def bar(time_ms: int) -> Bar:
    return cast(Bar, SimpleNamespace(time_ms=time_ms, state=State.CLOSED, revision=0))


def build(monkeypatch: pytest.MonkeyPatch, unlisted: set[int], *rest: int) -> tuple[Halted, Sweep]:
    market = Halted({1: unlisted | set(rest), 2: {ago(30)}}, unlisted)
    monkeypatch.setattr(module, "monotonic", lambda: market.now_s)
    known = {one.id: one for one in (BITCOIN, ETHER)}
    made = swept(market, lambda _: market)
    verify = cast(Any, SimpleNamespace(take=market.take))
    made = replace(made, candles=cast(Any, market), verify=verify, catalogue=lambda ids: {i: known[i] for i in ids})
    return market, made


def test_minutes_that_history_never_lists_hold_up_no_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    halt = {ago(9000 - k) for k in range(300)}
    market, sweep = build(monkeypatch, halt, ago(8990 - CHUNK), ago(4000), ago(40))
    market.turns(sweep, 20)
    assert market.closed == {1: halt, 2: set()}
    mine = [minute for i, minute in market.asked if i == 1]
    assert mine[:3] == [-9000, -8000, -7000]
    rounds = mine.count(-9000)
    assert rounds == 2, "it rests between two rounds"
    market.turns(sweep, 2 * 3600 // 5)
    assert rounds < [minute for i, minute in market.asked if i == 1].count(-9000) <= 10, "and longer each time"
    assert sweep.resting[1][1] == REST_MOST_S
    market.unlisted = set()
    market.turns(sweep, 2, every_s=REST_MOST_S)
    assert (market.closed[1], sweep.resting, sweep.rounds) == (set(), {}, {}), "listed after all"


def test_a_long_halt_leaves_the_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    halt = {ago(9000 - k) for k in range(3 * CHUNK)}
    market, sweep = build(monkeypatch, halt, ago(40))
    sweep = replace(sweep, budget=1)
    market.turns(sweep, 2)
    assert market.asked == [(1, -9000), (2, -30)]
    market.turns(sweep, 30)
    assert market.closed == {1: halt, 2: set()}


def test_a_history_that_is_away_is_asked_about_the_same_stretch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    market, sweep = build(monkeypatch, {ago(9000)}, ago(4000))
    market.turns(sweep, 1, every_s=REST_S)
    market.away = True
    market.turns(sweep, 1, every_s=REST_S)
    market.away = False
    market.turns(sweep, 1)
    assert [minute for i, minute in market.asked if i == 1] == [-9000, -8000, -8000]
