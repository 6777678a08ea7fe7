"""What TimescaleDB does by itself: compress old chunks, drop what is not kept, refresh the hours of quality."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import text

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.retention import Retention
from app.storage import backfills, candles, catalog, holes, inventory, migrate, retention, timescale
from app.storage.engine import database_url
from app.storage.times import utc
from tests.keeping import extent, fill, retain, rows, today_ms

pytestmark = [pytest.mark.timescale, pytest.mark.timeout(300)]

M1, M5, M15, H1, H4, D1 = Timeframe
HOUR_MS, WEEK_MS = 60 * MINUTE_MS, 7 * DAY_MS
HOURS = """SELECT time_bucket(interval '1 hour', time) AS hour, instrument_id, count(*) AS bars,
    count(*) FILTER (WHERE state > 0) AS closed, count(*) FILTER (WHERE state = 2) AS verified,
    count(*) FILTER (WHERE revision > 0) AS revised, count(*) FILTER (WHERE origin = 1) AS replaced,
    count(*) FILTER (WHERE origin = 3) AS flat, sum(trade_count)::bigint AS trades
    FROM candles_1m WHERE open_time < 4611686018427387904 GROUP BY 1, 2 ORDER BY 1, 2"""


@pytest.fixture(scope="module")
def engine(timescale_url: str) -> Iterator[sa.Engine]:
    """One connection at a time, gone after each use."""
    migrate.upgrade(timescale_url)
    found = sa.create_engine(database_url(timescale_url), poolclass=sa.NullPool)
    yield found
    found.dispose()


@pytest.fixture(autouse=True)
def _empty(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for table in (*timescale.TABLES, "coverage", "holes", "backfills", "official_1m", "retention"):
            connection.execute(text(f'TRUNCATE "{table}"'))
    refresh(engine)


@pytest.fixture
def instrument(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        return catalog.instruments(connection)[0].id


def run_job(engine: sa.Engine, name: str, table: str | None = None) -> None:
    """Runs a policy now, as its worker would."""
    query = """SELECT job_id FROM timescaledb_information.jobs
        WHERE proc_name = :name AND (CAST(:of AS text) IS NULL OR hypertable_name = :of)"""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        job = connection.execute(text(query), {"name": name, "of": table}).scalar_one()
        connection.execute(text(f"CALL run_job({job})"))


def refresh(engine: sa.Engine) -> None:
    run_job(engine, "policy_refresh_continuous_aggregate")


def ask(engine: sa.Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def hours(engine: sa.Engine, *, stored_only: bool = False) -> list[tuple[Any, ...]]:
    """The hours of quality; `stored_only`: without what the view adds as one reads."""
    with engine.begin() as connection:
        if stored_only:
            connection.execute(text("ALTER MATERIALIZED VIEW quality_1h SET (timescaledb.materialized_only = true)"))
        found = connection.execute(text("SELECT * FROM quality_1h ORDER BY hour, instrument_id")).all()
        if stored_only:
            connection.execute(text("ALTER MATERIALIZED VIEW quality_1h SET (timescaledb.materialized_only = false)"))
    return [tuple(row) for row in found]


def test_old_chunks_are_compressed_and_hold_the_same_bars(engine: sa.Engine, instrument: int) -> None:
    today = today_ms(engine)
    fill(engine, instrument, M1, today - 30 * DAY_MS, today - 27 * DAY_MS)
    fill(engine, instrument, M1, today - 2 * DAY_MS, today)
    with engine.begin() as connection:
        before = {name: rows(connection, name) for name in ("candles_1m", "indicators_1m")}
    for table in before:
        run_job(engine, "policy_compression", table)
    with engine.begin() as connection:
        assert {name: rows(connection, name) for name in before} == before
        told = {table.name: table for table in inventory.read(connection).tables}
    for name in before:
        assert told[name].chunks is not None and told[name].compressed is not None
        assert 1 <= told[name].compressed < told[name].chunks, "the newest is not"
        assert told[name].ratio is not None and told[name].ratio > 1
    assert told["candles_5m"].compressed == 0


def test_the_job_ends_claims_and_drops_whole_old_chunks(engine: sa.Engine, instrument: int) -> None:
    today = today_ms(engine)
    begin, cutoff = today - 40 * DAY_MS, today - 20 * DAY_MS
    fill(engine, instrument, M1, begin, today - 10 * DAY_MS)
    fill(engine, instrument, D1, begin, today)
    run_job(engine, "policy_compression", "candles_1m")
    with engine.begin() as connection:
        for tf in (M1, D1):
            holes.cover(connection, instrument, begin, None, tf=tf)
        holes.record(connection, instrument, begin, begin + MINUTE_MS, "old")
        holes.record(connection, instrument, cutoff - MINUTE_MS, cutoff + MINUTE_MS, "spanning")
        backfills.create(connection, instrument, M1, begin, cutoff)
    retain(engine, {"1m": 20})
    store_only = Retention(engine, retention, lambda *_: True, publisher=None)  # type: ignore[arg-type]
    assert not store_only.run(), "the task leaves it to the job"
    assert extent(engine, instrument, M1)[1] == begin
    run_job(engine, "retain_bars")
    for kind in ("candles", "indicators"):
        found = extent(engine, instrument, M1, kind)
        assert cutoff - WEEK_MS < found[1] <= cutoff, "a chunk that reaches beyond the cutoff stays"
        assert found[1] % DAY_MS == 0
        assert found[2] == today - 10 * DAY_MS - MINUTE_MS
        assert extent(engine, instrument, D1, kind)[0] == 40
    with engine.begin() as connection:
        assert holes.covered(connection, instrument) == [(cutoff, None)], "nothing of the rest is claimed"
        assert holes.covered(connection, instrument, tf=D1) == [(begin, None)]
        assert [(hole.lo_ms, hole.cause) for hole in holes.open_holes(connection, due_only=False)] == [
            (cutoff, "spanning")
        ]
        assert [item.state for item in backfills.recent(connection)] == ["cancelled"]
        told = {table.name: table for table in inventory.read(connection).tables}["candles_1m"]
        assert (told.keep_days, told.kept_since_ms) == (20, cutoff)


def test_what_was_asked_to_be_kept_is_not_dropped(engine: sa.Engine, instrument: int) -> None:
    today = today_ms(engine)
    fill(engine, instrument, M5, today - 100 * DAY_MS, today)
    retain(engine, {"5m": 20})
    with engine.begin() as connection:
        retention.keep_from(connection, [M5], today - 60 * DAY_MS)
    run_job(engine, "retain_bars")
    assert today - 74 * DAY_MS < extent(engine, instrument, M5)[1] <= today - 60 * DAY_MS


def test_the_hours_of_quality_are_those_of_the_bars_also_after_an_old_correction(
    engine: sa.Engine, instrument: int
) -> None:
    today = today_ms(engine)
    fill(engine, instrument, M1, today - 3 * DAY_MS, today, state=1)
    assert hours(engine) == ask(engine, HOURS), "what is not stored yet is added as one reads"
    refresh(engine)
    assert hours(engine) == ask(engine, HOURS)
    assert len(hours(engine, stored_only=True)) >= 70
    old = today - 2 * DAY_MS + 5 * HOUR_MS
    with engine.begin() as connection:
        candles.verify(connection, [(instrument, old + n * MINUTE_MS) for n in range(30)])
        connection.execute(text("DELETE FROM candles_1m WHERE time = :t"), {"t": utc(old + 40 * MINUTE_MS)})
    refresh(engine)
    corrected = [row for row in hours(engine, stored_only=True) if row[0] == utc(old)]
    assert [(row[2], row[4]) for row in corrected] == [(59, 30)]
    assert hours(engine) == ask(engine, HOURS)


def test_hours_whose_bars_were_dropped_go_as_well(engine: sa.Engine, instrument: int) -> None:
    today = today_ms(engine)
    fill(engine, instrument, M1, today - 30 * DAY_MS, today - 29 * DAY_MS)
    fill(engine, instrument, M1, today - DAY_MS, today)
    refresh(engine)
    assert len(hours(engine)) == 48
    retain(engine, {"1m": 10})
    run_job(engine, "retain_bars")
    refresh(engine)
    assert hours(engine) == ask(engine, HOURS)
    assert len(hours(engine)) == 24


def test_jobs_are_told_with_their_runs(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        found = inventory.read(connection)
    names = [job.name for job in found.jobs]
    assert (names.count("policy_compression"), names.count("policy_refresh_continuous_aggregate")) == (12, 1)
    assert names.count("retain_bars") == 1
    assert {job.table for job in found.jobs} == {*timescale.TABLES, "quality_1h", None}
    assert found.obstacle is None
    assert found.revision == found.newest
