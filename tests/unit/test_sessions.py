"""When a polled market is asked: every few minutes in its windows, once after them, never outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.polls import Plan, again_from, behind, believed, length_ms, plan
from app.domain.sessions import Session, Window, windows
from app.domain.timeframes import DAY_MS, MINUTE_MS

LAG_MS, EVERY_MS, HALF_MS = 16 * MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# Istanbul's last week of October 2026, by hand: 28 October half a day, 29 October closed.
WEEK = windows(
    "XIST",
    [
        Session(ms(f"2026-{day}"), ms(f"2026-{day}T07:00"), ms(f"2026-{day}T{close}"))
        for day, close in (("10-26", "15:00"), ("10-27", "15:00"), ("10-28", "09:30"), ("10-30", "15:00"),
                           ("11-02", "15:00"))
    ],
)  # fmt: skip


def polls(start: str, end: str, *, step_s: int = 5) -> list[str]:
    """When a poller that ticks every `step_s` of exchange time asks, all being well."""
    until_ms, asked_ms = ms(start) - LAG_MS, None
    asked = []
    for now_ms in range(ms(start), ms(end), step_s * 1000):
        due = plan(now_ms, until_ms, asked_ms, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS)
        if due.ask:
            asked.append(now_ms)
            asked_ms = now_ms
        until_ms = max(until_ms, due.until_ms)
    return [datetime.fromtimestamp(at / 1000, UTC).strftime("%d %H:%M") for at in asked]


def test_a_whole_session_is_polled_every_five_minutes_and_once_after_it() -> None:
    asked = polls("2026-10-27T00:00", "2026-10-28T00:00")
    first = datetime(2026, 10, 27, 6, 40, tzinfo=UTC)
    expected = [(first + timedelta(minutes=5 * n)).strftime("%d %H:%M") for n in range(102)]
    assert asked == [*expected, "27 15:26"]
    assert expected[-1] == "27 15:05"


def test_a_half_day_ends_at_its_own_close() -> None:
    asked = polls("2026-10-28T00:00", "2026-10-29T00:00")
    assert (asked[0], asked[-2], asked[-1], len(asked)) == ("28 06:40", "28 09:35", "28 09:56", 37)


def test_a_holiday_and_a_weekend_are_not_polled() -> None:
    assert polls("2026-10-29T00:00", "2026-10-30T06:40") == []
    assert polls("2026-10-31T00:00", "2026-11-02T06:40") == []


def test_an_outage_of_a_session_is_asked_for_once_when_the_poller_returns_at_night() -> None:
    known = ms("2026-10-27T10:00")
    due = plan(ms("2026-10-27T20:00"), known, None, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS)
    assert due == Plan(True, ms("2026-10-28T06:40"))
    lacking = behind(known, ms("2026-10-27T20:00"), WEEK, lag_ms=LAG_MS)
    assert length_ms(lacking) == 310 * MINUTE_MS
    # Afterwards there is nothing to ask for until the next window opens.
    assert not plan(ms("2026-10-28T06:39"), due.until_ms, None, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS).ask


def test_right_after_the_window_a_delayed_source_is_waited_for() -> None:
    at = {minute: plan(ms(f"2026-10-27T15:{minute}"), ms("2026-10-27T14:49"), ms("2026-10-27T15:05"), WEEK,
                       lag_ms=LAG_MS, every_ms=EVERY_MS).ask for minute in ("11", "25", "26")}  # fmt: skip
    assert at == {"11": False, "25": False, "26": True}


def test_in_the_dead_time_everything_is_known_without_asking() -> None:
    friday, monday = ms("2026-10-30T15:26"), ms("2026-11-02T06:40")
    assert plan(friday, ms("2026-10-30T15:10"), None, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS) == Plan(False, monday)


def test_where_the_calendar_ends_nothing_is_known_but_what_was_asked_for() -> None:
    """A library's calendar may end with the year, and its market trades on."""
    closed, week_after = ms("2026-11-02T15:10"), ms("2026-11-09T10:00")
    last = plan(ms("2026-11-02T15:26"), ms("2026-11-02T14:50"), None, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS)
    assert last == Plan(True, closed)
    assert plan(week_after, closed, None, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS) == Plan(False, closed)


_minutes = st.integers(WEEK[0].lo_ms // MINUTE_MS - 600, WEEK[-1].hi_ms // MINUTE_MS + 600)


@given(_minutes, _minutes, st.none() | _minutes)
def test_what_is_known_never_goes_back_and_never_runs_ahead_of_the_source(now: int, until: int, asked: int) -> None:
    now_ms, until_ms = now * MINUTE_MS, until * MINUTE_MS
    asked_ms = None if asked is None else asked * MINUTE_MS
    due = plan(now_ms, until_ms, asked_ms, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS)
    assert due.until_ms >= until_ms
    # No minute that is expected becomes known before the source has it.
    for window in WEEK:
        newly = Window(max(until_ms, window.lo_ms), min(due.until_ms, window.hi_ms))
        assert newly.lo_ms >= newly.hi_ms or newly.hi_ms <= now_ms - LAG_MS
        # And none without asking.
        assert due.ask or newly.lo_ms >= newly.hi_ms


def test_a_clock_that_begins_anew_asks_at_once() -> None:
    now_ms = WEEK[0].lo_ms + DAY_MS // 24
    assert plan(now_ms, now_ms - LAG_MS, now_ms + DAY_MS, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS).ask


def test_the_last_half_hour_of_the_open_market_is_asked_for_again() -> None:
    asked = {
        text: again_from(ms(text), ms(text), WEEK, overlap_ms=HALF_MS)
        for text in ("2026-10-27T10:00", "2026-10-27T06:50", "2026-10-27T06:40", "2026-10-30T06:40", "2026-10-20T06:00")
    }
    assert asked == {
        "2026-10-27T10:00": ms("2026-10-27T09:30"),
        "2026-10-27T06:50": ms("2026-10-27T06:40"),  # not the night
        "2026-10-27T06:40": ms("2026-10-26T14:40"),  # the end of the day before
        "2026-10-30T06:40": ms("2026-10-28T09:10"),  # of the half day before the holiday
        "2026-10-20T06:00": ms("2026-10-20T05:30"),  # nothing is known of before
    }


def test_everything_behind_the_newest_bar_is_asked_for_again() -> None:
    """A source that stands still and lists the minutes in retrospect: what counts as known goes on meanwhile."""
    until_ms, source_ms = ms("2026-10-27T11:44"), ms("2026-10-27T11:49")
    asked = {
        text: again_from(until_ms, source_ms, WEEK, overlap_ms=HALF_MS, last_ms=ms(text))
        for text in ("2026-10-27T10:45", "2026-10-27T11:40", "2026-10-26T15:00")
    }
    assert asked == {
        "2026-10-27T10:45": ms("2026-10-27T10:45"),
        "2026-10-27T11:40": ms("2026-10-27T11:14"),
        "2026-10-26T15:00": ms("2026-10-26T15:00"),  # nothing came all morning
    }


def test_a_window_that_is_over_is_asked_for_from_its_opening() -> None:
    until_ms = ms("2026-10-27T14:49")
    asked = {
        text: again_from(until_ms, ms(text), WEEK, overlap_ms=HALF_MS)
        for text in ("2026-10-27T15:09", "2026-10-27T15:10", "2026-10-28T08:00")
    }
    assert asked == {
        "2026-10-27T15:09": ms("2026-10-27T14:19"),
        "2026-10-27T15:10": ms("2026-10-27T06:40"),
        "2026-10-28T08:00": ms("2026-10-27T06:40"),  # the poller was away at the end
    }
    # Once that is answered, the next opening begins with the half hour before it, as every day.
    opening = ms("2026-10-28T06:40")
    assert again_from(opening, opening, WEEK, overlap_ms=HALF_MS) == ms("2026-10-27T14:40")


def test_what_a_clock_that_was_ahead_wrote_is_not_believed() -> None:
    def believes(now: str, until: str) -> int:
        return believed(ms(f"2026-{until}"), ms(f"2026-{now}"), WEEK, lag_ms=LAG_MS, slack_ms=HALF_MS)

    opening = ms("2026-10-27T06:40")
    assert believes("10-27T10:00", "10-27T12:44") == opening
    assert believes("10-27T10:00", "10-30T08:00") == opening
    assert believes("10-27T20:00", "10-28T09:00") == opening  # in the night
    for now, until in (
        ("10-27T10:00", "10-27T09:44"),
        ("10-27T10:00", "10-27T09:45"),  # a worker whose clock is a little ahead of this one's
        ("10-27T10:00", "10-27T07:00"),
        ("10-27T06:40", "10-27T06:40"),  # the source is in the night still
        ("10-27T20:00", "10-28T06:40"),
        ("10-29T10:00", "10-30T06:40"),
        ("10-20T10:00", "10-23T06:40"),  # no window is known of then
    ):
        assert believes(now, until) == ms(f"2026-{until}")


def test_a_clock_that_was_ahead_for_one_poll_leaves_nothing_unasked() -> None:
    until_ms, asked_ms, had_ms = ms("2026-10-27T09:44"), None, ms("2026-10-27T09:44")
    for minute in range(301):
        true_ms = ms("2026-10-27T10:00") + minute * MINUTE_MS
        now_ms = true_ms + (180 * MINUTE_MS if minute == 60 else 0)
        until_ms = believed(until_ms, now_ms, WEEK, lag_ms=LAG_MS, slack_ms=HALF_MS)
        due = plan(now_ms, until_ms, asked_ms, WEEK, lag_ms=LAG_MS, every_ms=EVERY_MS)
        if due.ask:
            from_ms = again_from(until_ms, now_ms - LAG_MS, WEEK, overlap_ms=HALF_MS)
            if from_ms < true_ms:
                assert from_ms <= had_ms, "a stretch that nobody asks for"
                had_ms = true_ms - LAG_MS
            asked_ms, until_ms = now_ms, due.until_ms
        assert true_ms - had_ms <= LAG_MS + EVERY_MS
