"""What follows from retention: longer bars stay when their minutes are gone, and nobody asks for what was let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
import redis
from sqlalchemy import text

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.instruments import Instrument
from app.domain.outbox import Span
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.errors import NotKept
from app.services.daily import Daily
from app.storage import backfills, candles, catalog, holes, outbox, retention, sessions, settled, timescale
from app.storage.times import utc
from tests.factories import settle
from tests.keeping import extent, fill, retain, rows, today_ms

M1, M5, M15, H1, H4, D1 = Timeframe
HOUR_MS = 60 * MINUTE_MS


@dataclass
class Source:
    """A history that has every bar and notes what it was asked for."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def klines(
        self, instrument: Instrument, timeframe: Timeframe, start_ms: int, end_ms: int, limit: int = 1000
    ) -> list[Bar]:
        self.asked.append((start_ms, end_ms))
        return [made(instrument.id, time_ms) for time_ms in range(start_ms, end_ms, timeframe.ms)][:limit]


class Noon:
    """A clock that stands at noon of the database's day."""

    speed = 1.0

    def __init__(self, today: int) -> None:
        self.today = today

    def now_us(self) -> int:
        return (self.today + 12 * HOUR_MS) * 1000


@dataclass
class Bench:
    platform: Platform
    source: Source
    today: int
    item: Instrument

    def settle(self, lo_ms: int, hi_ms: int) -> None:
        with self.platform.engine.begin() as connection:
            outbox.mark(connection, "rollup", [Span(self.item.id, lo_ms, hi_ms - MINUTE_MS)])
        settle(self.platform)

    def longer(self) -> dict[str, list[Any]]:
        with self.platform.engine.begin() as connection:
            return {tf.value: rows(connection, f"candles_{tf.value}") for tf in ROLLUPS}

    def correct(self, lo_ms: int, hi_ms: int) -> None:
        """The exchange has another word on these minutes."""
        with self.platform.engine.begin() as connection:
            candles.replace(connection, [made(self.item.id, t, 9000.0) for t in range(lo_ms, hi_ms, MINUTE_MS)])
        self.settle(lo_ms, hi_ms)

    def run(self, statement: str, **values: object) -> None:
        with self.platform.engine.begin() as connection:
            connection.execute(text(statement), values)


def made(instrument: int, time_ms: int, price: float = 7.0) -> Bar:
    us, sums = time_ms * 1000, (Decimal(2),) * 3
    return Bar(instrument, time_ms, *(price,) * 4, *sums, 3, us, 0, us, 0, State.VERIFIED, 0, Origin.EXCHANGE)


@pytest.fixture(params=["binance BBB/USDT", "alpaca BBB"])
def bench(request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis) -> Iterator[Bench]:
    platform = Platform(settings.model_copy(update={"start_backfill_hours": 0}), "tests")
    with platform.engine.begin() as connection:
        others = "coverage holes backfills official_1m touched settled sessions retention"
        for table in (*timescale.TABLES, *others.split()):
            connection.execute(text(f'TRUNCATE "{table}"'))
        item = catalog.add(connection, *request.param.split(), active=True)
        for other in catalog.instruments(connection):
            catalog.set_active(connection, other.id, other.id == item.id)
    source, today = Source(), today_ms(platform.engine)
    platform.__dict__["clock"] = Noon(today)
    platform.__dict__["history"] = lambda instrument: source
    yield Bench(platform, source, today, item)
    platform.engine.dispose()


def covered(bench: Bench, tf: Timeframe = M1) -> list[tuple[int, int | None]]:
    with bench.platform.engine.begin() as connection:
        return holes.covered(connection, bench.item.id, tf=tf)


@pytest.mark.parametrize("days", [{"1m": 10}, {"1m": 10, "5m": 10, "15m": 10, "1h": 10, "4h": 10}], ids=["1m", "all"])
@pytest.mark.parametrize("state", [State.VERIFIED, State.OPEN])
def test_a_longer_bar_whose_minutes_were_let_go_stays(bench: Bench, days: dict[str, int | None], state: State) -> None:
    """A late word on the rest of its day changes nothing of it, nor does it doubt the exchange's own day."""
    engine, item, lo_ms = bench.platform.engine, bench.item, bench.today - 20 * DAY_MS
    fill(engine, item.id, M1, lo_ms, lo_ms + DAY_MS)
    with engine.begin() as connection:
        settled.forward(connection, item.id, bench.today)
        holes.cover(connection, item.id, lo_ms, None)
    bench.settle(lo_ms, lo_ms + DAY_MS)
    for tf in ROLLUPS:
        assert extent(engine, item.id, tf)[0] == 1440 // tf.minutes
        bench.run(f'UPDATE "candles_{tf.value}" SET state = :state', state=int(state))
    if item.exchange.value == "alpaca":
        bench.run("UPDATE candles_1d SET origin = 1")
    retain(engine, days)
    bench.platform.retention.run()
    before = bench.longer()
    with engine.begin() as connection:
        holes.cover(connection, item.id, lo_ms, None)  # a claim alone does not bring the minutes back
    bench.correct(lo_ms + 12 * HOUR_MS, lo_ms + DAY_MS)
    after = bench.longer()
    assert after["1d"] == before["1d"]
    assert len(after["1d"]) == 1
    if len(days) == 1:
        assert after == before


def test_a_day_that_lost_its_first_half_in_another_way_stays_as_well(bench: Bench) -> None:
    engine, item, lo_ms = bench.platform.engine, bench.item, bench.today - 5 * DAY_MS
    fill(engine, item.id, M1, lo_ms, lo_ms + DAY_MS)
    with engine.begin() as connection:
        settled.forward(connection, item.id, bench.today)
        holes.cover(connection, item.id, lo_ms, None)
    bench.settle(lo_ms, lo_ms + DAY_MS)
    before = bench.longer()
    for tf in (M1, M5, M15, H1, H4):
        bench.run(f'DELETE FROM "candles_{tf.value}" WHERE time < :noon', noon=utc(lo_ms + 12 * HOUR_MS))
    bench.run(
        "UPDATE coverage SET stretches = stretches - tstzmultirange(tstzrange(NULL, :t))", t=utc(lo_ms + 12 * HOUR_MS)
    )
    bench.correct(lo_ms + 20 * HOUR_MS, lo_ms + 21 * HOUR_MS)
    after = bench.longer()
    assert after["1d"] == before["1d"]
    assert after["1h"] != before["1h"], "its hour is whole and follows"


def test_kept_minutes_make_longer_bars_again(bench: Bench) -> None:
    lo_ms = bench.today - 20 * DAY_MS
    retain(bench.platform.engine, {"1m": 10, "5m": 10})
    with bench.platform.engine.begin() as connection:
        retention.keep_from(connection, [M1, M5], lo_ms)
    bench.correct(lo_ms, lo_ms + DAY_MS)
    bench.platform.retention.run()
    assert extent(bench.platform.engine, bench.item.id, M1)[0] == 1440
    assert extent(bench.platform.engine, bench.item.id, D1)[0] == 1


def test_nobody_asks_for_what_was_let_go(bench: Bench) -> None:
    """The minutes before the cutoff are all missing, claimed, doubted and unverified; nothing of it is looked for."""
    platform, item, today = bench.platform, bench.item, bench.today
    cutoff = today - 3 * DAY_MS
    fill(platform.engine, item.id, M1, cutoff, today)
    fill(platform.engine, item.id, M1, cutoff - 2 * DAY_MS, cutoff - 2 * DAY_MS + HOUR_MS, state=1)
    with platform.engine.begin() as connection:
        settled.forward(connection, item.id, today)
        holes.cover(connection, item.id, today - 30 * DAY_MS, None)
        holes.record(connection, item.id, today - 20 * DAY_MS, today - 10 * DAY_MS, "feed down")
        holes.record(connection, item.id, today - 9 * DAY_MS, cutoff + MINUTE_MS, "feed down")
        connection.execute(text("UPDATE settled SET checked = :t"), {"t": utc(today - 30 * DAY_MS)})
        connection.execute(text("UPDATE candles_1m SET updated = now() - interval '1 hour'"))
    retain(platform.engine, {"1m": 3})

    def everything() -> None:
        while platform.repair.run():
            continue
        for _ in range(3):
            platform.sweep.run()
            platform.search.scan()
            platform.repair.find_gaps()
            platform.repair.run()
        assert [page.end_ms for page in platform.audit.pages(item, M1, today - 30 * DAY_MS, today)][-1] == today

    everything()
    platform.retention.run()
    everything()
    assert bench.source.asked
    assert min(lo for lo, _ in bench.source.asked) == cutoff
    assert covered(bench) == [(cutoff, None)]
    assert extent(platform.engine, item.id, M1)[1] == cutoff
    with platform.engine.begin() as connection:
        assert [hole for hole in holes.open_holes(connection, due_only=False) if hole.lo_ms < cutoff] == []


def test_the_platforms_own_backfills_begin_at_the_cutoff(bench: Bench) -> None:
    platform, item, today = bench.platform, bench.item, bench.today
    retain(platform.engine, {"1m": 2, "1h": 2})
    with platform.engine.begin() as connection:
        backfills.create_all(connection, M1, [(item.id, today - 30 * DAY_MS, today)])
        backfills.create_all(connection, H1, [(item.id, today - 30 * DAY_MS, today - 10 * DAY_MS)])
    for backfill_id in platform.backfill.due():
        platform.backfill.run(backfill_id)
    assert min(lo for lo, _ in bench.source.asked) == today - 2 * DAY_MS
    assert covered(bench) == [(today - 2 * DAY_MS, today)]
    assert covered(bench, H1) == []
    with platform.engine.begin() as connection:
        assert {(row.state, row.bars, row.empty_to_ms) for row in backfills.recent(connection)} == {
            ("done", 2880, None), ("done", 0, None),
        }  # fmt: skip


def test_a_backfill_beyond_is_refused_and_with_keep_it_stays(bench: Bench) -> None:
    platform, item, today = bench.platform, bench.item, bench.today
    retain(platform.engine, {"1m": 2})
    with pytest.raises(NotKept, match=f"^the backfill of {item.symbol} begins on "):
        platform.backfill.request(item, M1, today - 4 * DAY_MS, today)
    with platform.engine.begin() as connection:
        assert backfills.recent(connection) == []
    platform.backfill.run(platform.backfill.request(item, M1, today - 4 * DAY_MS, today, keep=True))
    platform.retention.run()
    assert extent(platform.engine, item.id, M1)[:2] == (4 * 1440, today - 4 * DAY_MS)


def test_daily_bars_are_asked_for_from_the_cutoff_on(bench: Bench) -> None:
    if bench.item.exchange.value != "alpaca":
        pytest.skip("its days are rolled up")
    platform, today = bench.platform, bench.today
    retain(platform.engine, {"1d": 50})
    with platform.engine.begin() as connection:
        day = today - DAY_MS
        sessions.put(connection, "XNYS", [Session(day, day + 14 * HOUR_MS, day + 21 * HOUR_MS)])
        candles.replace(connection, [made(bench.item.id, today - 80 * DAY_MS)], tf=D1, flats=False)
        connection.execute(text("UPDATE candles_1d SET state = 1"))  # in doubt since long ago
    assert Daily(platform.engine, settled, Noon(today), 400, (), retention.cutoffs).run() == 1
    with platform.engine.begin() as connection:
        assert [(row.lo_ms, row.hi_ms) for row in backfills.recent(connection)] == [(today - 50 * DAY_MS, today)]


def test_polling_after_a_long_pause_begins_at_the_cutoff(bench: Bench) -> None:
    platform, today = bench.platform, bench.today
    with platform.engine.begin() as connection:
        item = catalog.add(connection, "yahoo", "BBB.IS", active=True)
        days = [Session(d, d + 7 * HOUR_MS, d + 15 * HOUR_MS) for d in range(today - 30 * DAY_MS, today, DAY_MS)]
        sessions.put(connection, "XIST", days)
        settled.forward(connection, item.id, today - 20 * DAY_MS)
    retain(platform.engine, {"1m": 5})
    polling = replace(platform.polling, watchlist=lambda: [item])
    polling.run()
    assert min(lo for lo, _ in bench.source.asked) == today - 5 * DAY_MS
    with platform.engine.begin() as connection:
        assert min(lo for lo, _ in holes.covered(connection, item.id)) >= today - 5 * DAY_MS
        assert [hole for hole in holes.open_holes(connection, due_only=False) if hole.lo_ms < today - 5 * DAY_MS] == []
