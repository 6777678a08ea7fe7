"""Retention on plain PostgreSQL: the law of the cutoff, what is let go in which order, what is kept all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis
import sqlalchemy as sa
from sqlalchemy import text

from app.bootstrap import Platform
from app.config import Settings, load_settings
from app.domain.keeping import Kept, slice_ms
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import NotKept
from app.services import retention as service
from app.services.retention import admit
from app.storage import backfills, holes, retention, timescale
from app.storage.times import utc
from tasks import upkeep
from tests.factories import add_instrument
from tests.keeping import extent, fill, retain, today_ms

M1, M5, M15, H1, H4, D1 = Timeframe


@pytest.fixture
def platform(settings: Settings, redis_client: redis.Redis) -> Iterator[Platform]:
    built = Platform(settings, "tests")
    with built.engine.begin() as connection:
        for table in (*timescale.TABLES, "coverage", "holes", "backfills", "official_1m", "retention"):
            connection.execute(text(f'TRUNCATE "{table}"'))
    yield built
    built.engine.dispose()


@pytest.fixture
def today(platform: Platform) -> int:
    return today_ms(platform.engine)


def cutoffs(platform: Platform, **session: str) -> dict[Timeframe, int]:
    with platform.engine.begin() as connection:
        for name, value in session.items():
            connection.execute(text(f"SET LOCAL {name} = '{value}'"))
        return retention.cutoffs(connection)


def test_settings_say_what_is_kept_and_nothing_of_the_simulated_market_goes() -> None:
    live = load_settings(market="live", retention_days_5m=0, _env_file=None).keep_days
    assert live == {"1m": 365, "5m": None, "15m": 365, "1h": 365, "4h": None, "1d": None}
    assert set(load_settings(_env_file=None).keep_days.values()) == {None}
    assert list(live) == [tf.value for tf in Timeframe]


def test_the_cutoff_is_a_midnight_in_utc_wherever_the_server_is(platform: Platform, today: int) -> None:
    retain(platform.engine, {"1m": 10, "5m": 200})
    expected = {M1: today - 10 * DAY_MS, M5: today - 200 * DAY_MS}
    assert cutoffs(platform) == expected
    assert cutoffs(platform, timezone="America/New_York") == expected, "daylight saving is in those 200 days"
    with platform.engine.begin() as connection:
        connection.execute(text("UPDATE retention SET kept_from = :t WHERE timeframe = '1m'"), {
            "t": utc(today - 30 * DAY_MS + 3600_000),
        })  # fmt: skip
    assert cutoffs(platform)[M1] == today - 30 * DAY_MS, "half a day is kept whole"


def test_writing_the_settings_again_leaves_what_was_asked_to_be_kept(platform: Platform, today: int) -> None:
    retain(platform.engine, {"1m": 10})
    with platform.engine.begin() as connection:
        retention.keep_from(connection, [M1], today - 50 * DAY_MS)
        retention.put(connection, {"1m": 20, "5m": 30})
        found = retention.settings(connection)
        assert (found[M1], found[M5], found[D1]) == (Kept(20, today - 50 * DAY_MS), Kept(30, None), Kept(None, None))
        retention.put(connection, {"1m": None})
        assert M1 not in retention.cutoffs(connection)


def test_a_turn_ends_claims_then_deletes_whole_days(platform: Platform, today: int) -> None:
    engine, one, two = platform.engine, add_instrument(platform.engine), add_instrument(platform.engine, "TWO/ETH")
    begin, cutoff = today - 20 * DAY_MS, today - 10 * DAY_MS
    for instrument in (one, two):
        for tf in (M1, H1, D1):
            fill(engine, instrument, tf, begin, today)
    with engine.begin() as connection:
        for tf in (M1, H1, D1):
            holes.cover(connection, one, begin, None, tf=tf)
        holes.cover(connection, two, begin, today)
        holes.record(connection, one, begin, begin + MINUTE_MS, "old")
        holes.record(connection, one, cutoff - MINUTE_MS, cutoff + MINUTE_MS, "spanning")
        holes.record(connection, one, cutoff + DAY_MS, cutoff + DAY_MS + MINUTE_MS, "new")
        gone = backfills.create(connection, one, M1, begin, cutoff)
        stays = backfills.create(connection, one, M1, begin, cutoff + DAY_MS)
        for time_ms in (cutoff - MINUTE_MS, cutoff):
            connection.execute(text(
                "INSERT INTO official_1m (instrument_id, time, open, high, low, close, volume, quote_volume, "
                "taker_buy_volume, trade_count) VALUES (:i, :t, 1, 1, 1, 1, 1, 1, 1, 1)"
            ), {"i": one, "t": utc(time_ms)})  # fmt: skip
    retain(engine, {"1m": 10, "1h": 15})
    assert not platform.retention.run()
    for instrument in (one, two):
        for kind in ("candles", "indicators"):
            assert extent(engine, instrument, M1, kind) == (10 * 1440, cutoff, today - MINUTE_MS)
            assert extent(engine, instrument, H1, kind) == (15 * 24, today - 15 * DAY_MS, today - 60 * MINUTE_MS)
            assert extent(engine, instrument, D1, kind)[0] == 20
    with engine.begin() as connection:
        assert holes.covered(connection, one) == [(cutoff, None)]
        assert holes.covered(connection, two) == [(cutoff, today)]
        assert holes.covered(connection, one, tf=H1) == [(today - 15 * DAY_MS, None)]
        assert holes.covered(connection, one, tf=D1) == [(begin, None)]
        left = [(h.lo_ms - cutoff, h.hi_ms - h.lo_ms, h.cause) for h in holes.open_holes(connection, due_only=False)]
        assert sorted(left) == [(0, MINUTE_MS, "spanning"), (DAY_MS, MINUTE_MS, "new")]
        states = {item.id: (item.state, item.error) for item in backfills.recent(connection)}
        assert states == {gone: ("cancelled", "older than what is kept"), stays: ("waiting", None)}
        assert connection.scalar(text("SELECT count(*) FROM official_1m")) == 1
    assert platform.redis.hget("system:counters", "bars_let_go") == str(2 * (10 * 1440 + 5 * 24)).encode()
    assert not platform.retention.run(), "and again there is nothing to do"


def test_a_turn_is_bounded_and_the_next_goes_on(
    platform: Platform, today: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = add_instrument(platform.engine)
    fill(platform.engine, one, M1, today - 30 * DAY_MS, today)
    retain(platform.engine, {"1m": 1})
    clock = iter(range(1000))
    monkeypatch.setattr(service, "monotonic", lambda: next(clock))
    monkeypatch.setattr(service, "TURN_S", 2)
    turns = [True]
    while turns[-1]:
        turns.append(platform.retention.run())
        assert extent(platform.engine, one, M1)[1] % DAY_MS == 0, "no day is ever seen cut in half"
    assert turns == [True, True, True, False]
    assert slice_ms(M1) == 6 * DAY_MS
    assert slice_ms(D1) == 10_000 * DAY_MS
    assert extent(platform.engine, one, M1)[:2] == (2 * 1440 - 1440, today - DAY_MS)


def test_the_task_asks_for_its_next_turn_while_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, asked = [True, False], list[str]()
    service_of_worker = SimpleNamespace(retention=SimpleNamespace(run=lambda: turns.pop(0)))
    monkeypatch.setattr(upkeep, "platform", lambda: service_of_worker)
    monkeypatch.setattr(upkeep, "current_app", SimpleNamespace(send_task=lambda name, **_: asked.append(name)))
    upkeep.retain.run()
    upkeep.retain.run()
    assert asked == [upkeep.retain.name]


def test_two_turns_at_once_do_no_harm(platform: Platform, today: int) -> None:
    one = add_instrument(platform.engine)
    fill(platform.engine, one, M1, today - 3 * DAY_MS, today)
    retain(platform.engine, {"1m": 1})
    with platform.engine.begin() as connection:
        assert holes.exclusive(connection, service.LOCK)
        assert not platform.retention.run()
        assert extent(platform.engine, one, M1)[0] == 3 * 1440


def test_what_is_asked_to_be_kept_meanwhile_is_not_deleted(platform: Platform, today: int) -> None:
    one = add_instrument(platform.engine)
    fill(platform.engine, one, M1, today - 30 * DAY_MS, today)
    retain(platform.engine, {"1m": 1})
    calls = 0

    def exclusive(connection: sa.Connection, key: int) -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:  # the first slice of six days is gone
            with platform.engine.begin() as other:
                retention.keep_from(other, [M1], today - 20 * DAY_MS)
        return holes.exclusive(connection, key)

    replace(platform.retention, exclusive=exclusive).run()
    assert extent(platform.engine, one, M1)[1] == today - 20 * DAY_MS


def test_to_keep_waits_for_the_slice_at_work(platform: Platform, today: int) -> None:
    retain(platform.engine, {"1m": 1})
    with platform.engine.begin() as connection, platform.engine.connect() as other:
        retention.cutoffs(connection, hold=True)
        other.execute(text("SET LOCAL lock_timeout = '100ms'"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            retention.keep_from(other, [M1], today - 20 * DAY_MS)


def test_older_bars_are_refused_or_kept_with_all_that_follows_from_them(platform: Platform, today: int) -> None:
    retain(platform.engine, {"1m": 10, "5m": 40, "15m": 10, "1h": 10, "1d": 100})
    start = today - 30 * DAY_MS + 3 * 3600_000
    with platform.engine.begin() as connection:
        assert admit(retention, connection, M1, today - 10 * DAY_MS, keep=False, what="x") == []
        assert admit(retention, connection, H4, start, keep=False, what="x") == [], "kept for ever"
        with pytest.raises(NotKept) as refused:
            admit(retention, connection, M1, start, keep=False, what="the backfill of BTC/USDT")
        assert retention.settings(connection)[M1].since_ms is None
        assert admit(retention, connection, H1, start, keep=True, what="x") == [H1]
        assert admit(retention, connection, M1, start, keep=True, what="x") == [M1, M15]
        assert admit(retention, connection, M1, start, keep=False, what="x") == [], "from now on it may come"
        assert admit(retention, connection, M1, start + DAY_MS, keep=True, what="x") == []
        kept = {tf: said.since_ms for tf, said in retention.settings(connection).items()}
        since = today - 30 * DAY_MS
        assert kept == {M1: since, M5: None, M15: since, H1: since, H4: None, D1: None}
    day, kept_day = (f"{utc(ms):%Y-%m-%d}" for ms in (start, today - 10 * DAY_MS))
    assert str(refused.value) == (
        f"the backfill of BTC/USDT begins on {day}, and 1m bars before {kept_day} are not kept: begin later, or have "
        f"them kept (--keep): all 1m and longer bars from {day} on then stay, of every symbol"
    )
    fill(platform.engine, one := add_instrument(platform.engine), M1, today - 32 * DAY_MS, today)
    platform.retention.run()
    assert extent(platform.engine, one, M1)[:2] == (30 * 1440, today - 30 * DAY_MS)


def test_minutes_are_refused_where_what_is_made_of_them_would_go(platform: Platform, today: int) -> None:
    """1m is kept for ever, and the rest is not: of such minutes no 15m to 1d would be made either."""
    retain(platform.engine, {"5m": 10, "15m": 20, "1h": 10})
    start = today - 15 * DAY_MS
    with platform.engine.begin() as connection:
        assert admit(retention, connection, M1, today - 10 * DAY_MS, keep=False, what="x") == []
        assert admit(retention, connection, M15, start, keep=False, what="x") == [], "nothing is asked of the others"
        with pytest.raises(NotKept) as refused:
            admit(retention, connection, M1, start, keep=False, what="trades.csv")
        assert admit(retention, connection, M1, start, keep=True, what="x") == [M5, H1]
        assert admit(retention, connection, M1, start, keep=False, what="x") == []
    day, kept_day = (f"{utc(ms):%Y-%m-%d}" for ms in (start, today - 10 * DAY_MS))
    said = (
        f"trades.csv begins on {day}, and 5m bars before {kept_day} are not kept: begin later, or have them kept "
        "({}): all 1m and longer bars from " + f"{day} on then stay, of every symbol"
    )
    assert str(refused.value) == said.format("--keep")
    assert str(refused.value.with_option("`keep`")) == said.format("`keep`")
