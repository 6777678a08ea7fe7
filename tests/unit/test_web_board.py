"""The board of an instrument's newest bars: the same whatever the order of messages and database reads."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.bars import Bar, Origin, State
from app.domain.rollup import combine
from app.domain.sessions import ALWAYS
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.domain.updates import bar_json, order_json
from webapp.board import Board, parse_bar

START_MS = 1_700_006_400_000
M5 = Timeframe.M5


def minute(index: int, *, count: int = 2, price: float = 100.0, state: State = State.CLOSED, revision: int = 0) -> Bar:
    time_ms = START_MS + index * MINUTE_MS
    first = index * 1000
    return Bar(
        1, time_ms, price, price + count, price - 1, price + count / 2, Decimal(count), Decimal(count) * 100,
        Decimal(0), count, time_ms * 1000, first, time_ms * 1000 + count, first + count - 1,
        state, revision, Origin.TRADES,
    )  # fmt: skip


def board(*watched: Timeframe, calendar: str = ALWAYS) -> Board:
    made = Board(calendar)
    made.watched.update(watched)
    return made


def test_a_message_is_read_back_as_its_bar() -> None:
    bar = minute(3, state=State.VERIFIED, revision=2)
    data = {**bar_json(bar), "order": order_json(bar)}
    assert parse_bar(1, data) == bar


def test_an_older_form_is_refused() -> None:
    known = board()
    newest = minute(0, count=5, state=State.OPEN)
    assert known.add_minute(newest)
    assert not known.add_minute(minute(0, count=4, state=State.OPEN))
    assert known.add_minute(minute(0, count=5))
    assert not known.add_minute(newest)
    assert known.add_minute(minute(0, count=3, revision=1))  # the exchange's word has fewer trades


def test_every_order_of_messages_gives_the_same_live_bar() -> None:
    minutes = [minute(i, price=100 + i) for i in range(3)] + [minute(3, price=110, state=State.OPEN)]
    expected = combine(minutes, START_MS)
    for order in permutations(range(5)):
        known = board(M5)
        known.seed(M5, combine(minutes[:1], START_MS), minutes[:1])
        for step in order:
            if step == 4:
                known.add_base(M5, combine(minutes[:2], START_MS))
            else:
                known.add_minute(minutes[step])
        live = known.live(M5)
        assert live is not None
        assert (live.trade_count, live.open, live.high, live.close, live.volume) == (
            expected.trade_count, expected.open, expected.high, expected.close, expected.volume,
        )  # fmt: skip


@given(rolled=st.integers(0, 12), seeded=st.integers(0, 12), last=st.integers(1, 12))
def test_a_late_seed_changes_nothing(rolled: int, seeded: int, last: int) -> None:
    rolled, seeded = min(rolled, last), min(seeded, last)
    minutes = [minute(i, price=100 + i) for i in range(last + 1)]
    known = board(Timeframe.H1)
    if rolled:
        known.add_base(Timeframe.H1, combine(minutes[:rolled], START_MS))
    for each in minutes:
        known.add_minute(each)
    known.seed(Timeframe.H1, combine(minutes[:seeded], START_MS) if seeded else None, minutes[max(seeded - 1, 0) :])
    live = known.live(Timeframe.H1)
    assert live is not None
    assert live.trade_count == sum(each.trade_count for each in minutes)
    assert live.volume == sum(each.volume for each in minutes)


def test_a_new_bucket_begins_without_the_old_one() -> None:
    known = board(M5)
    known.seed(M5, combine([minute(i) for i in range(5)], START_MS), [minute(4)])
    known.add_minute(minute(5, price=200, state=State.OPEN))
    live = known.live(M5)
    assert live is not None
    assert (live.time_ms, live.open, live.trade_count) == (START_MS + M5.ms, 200, 2)


def test_an_evening_past_midnight_utc_is_in_no_live_day_of_a_stock() -> None:
    """Wednesday 15 November 2023: Tuesday's 19:30 New York time, the morning, and the evening (on Thursday, UTC)."""
    day, evening, morning = Timeframe.D1, minute(30, price=50), minute(9 * 60, price=100)
    late = minute(24 * 60 + 30, price=200)
    known = board(day, calendar="XNYS")
    known.seed(day, None, [])
    known.add_minute(evening)
    assert known.live(day) is None
    assert known.live(Timeframe.H4) == combine([evening], START_MS), "4h is cut at UTC"
    known.add_minute(morning)
    assert known.live(day) == combine([morning], START_MS)
    known.add_minute(late)
    assert known.live(day) == combine([morning], START_MS)
    crypto = board(day)
    for each in (evening, morning, late):
        crypto.add_minute(each)
    assert crypto.live(day) == combine([late], START_MS + DAY_MS)


def test_only_1m_is_told_before_the_database_was_read() -> None:
    known = board(M5)
    assert known.knows(Timeframe.M1)
    assert not known.knows(M5)
    known.seed(M5, None, [])
    assert known.knows(M5)
    known.clear()
    assert not known.knows(M5)
