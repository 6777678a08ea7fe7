"""Each case on both databases: TimescaleDB answers and leaves what a plain PostgreSQL does."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import bulk, candles, retention
from app.storage.sql import sql
from tests.contract.storage import bars, sequences
from tests.contract.storage import cases as _cases  # noqa: F401  (registers them)
from tests.contract.storage.bars import at
from tests.contract.storage.cases.candles import official
from tests.contract.storage.database import TABLES, Database, Outcome
from tests.contract.storage.registry import CASES, Case, blocks, public_functions
from tests.processes import until

# What is not asked of both, and why.
EXEMPT: dict[str, str] = {
    "inventory.read": "sizes, chunks and jobs: what the two differ in",
    "inventory.size": "as little as inventory.read",
    "inventory.connections": "as little as inventory.sessions",
    "inventory.sessions": "a server of one connection sees nobody",
    "keys.locked": "asks what it is given",
    "reads.Reads.connect": "chooses between two servers, and asks them nothing of the tables",
    "reads.Reads.state": "how far a replica is; the small TimescaleDB has none",
    "retention.by_job": "says which of the two it is",
    **{
        f"timescale.{name}": "says which of the two it is, or makes the one the other"
        for name in ("adopt", "convert", "converted", "offer", "revert", "version")
    },
    **{f"migrate.{name}": "asks alembic of the whole database" for name in ("convertible", "current")},
}

CHUNKS = sa.text(
    "SELECT hypertable_name, count(*) FILTER (WHERE is_compressed), count(*) FROM timescaledb_information.chunks"
    " WHERE hypertable_schema = current_schema() GROUP BY 1"
)
# A week of minutes of ten instruments, compressed, and three days of half of them written again since, as repair does.
WEEK = at("2019-12-05")
A_WEEK = sa.text("""
    INSERT INTO candles_1m SELECT i, g, 1, 2, 1, 2, 1, 1, 1, 5, 1, 1, 2, 2, 1, 0, 0, now()
    FROM generate_series(1, 10) AS i, generate_series(timestamptz '2019-12-05', '2019-12-11 23:59', '1 minute') AS g;
    SELECT compress_chunk(c) FROM show_chunks('candles_1m', newer_than => timestamptz '2019-12-05') AS c;
    UPDATE candles_1m SET revision = 1 WHERE instrument_id <= 5 AND time >= '2019-12-07' AND time < '2019-12-10';
    ANALYZE candles_1m
""")
WAITS = sa.text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")


class Reference:
    """What a plain PostgreSQL answers, each case asked once."""

    def __init__(self, plain: Database) -> None:
        self._plain = plain
        self._known: dict[str, Outcome] = {}
        self.start = plain.run(lambda _: None, rows=lambda digests: digests)

    def outcome(self, case: Case) -> Outcome:
        """Its answer, all digests, and the rows of the tables that it changes."""
        if case.name not in self._known:
            self._known[case.name] = self._plain.run(case.body, by_engine=case.by_engine, rows=self.unlike_start)
        return self._known[case.name]

    def unlike_start(self, digests: dict[str, str]) -> list[str]:
        """The tables that are not what they were at the start."""
        return [table for table in digests if digests[table] != self.start.digests[table]]

    def changed(self, outcome: Outcome) -> dict[str, tuple[int, int]]:
        """Table → (rows that went, rows that came)."""
        found = {}
        for table, rows in outcome.rows.items():
            before, after = Counter(self.start.rows[table]), Counter(rows)
            found[table] = ((before - after).total(), (after - before).total())
        return found


@pytest.fixture(scope="session")
def reference(plain: Database) -> Reference:
    """The plain database's answers."""
    return Reference(plain)


def test_the_same_start(database: Database, reference: Reference) -> None:
    assert database.run(lambda _: None).digests == reference.start.digests


@pytest.mark.timescale
def test_old_chunks_are_compressed(filled_timescale: Database) -> None:
    with filled_timescale.engine.connect() as connection:
        rows = connection.execute(CHUNKS).all()
    counts = {table: (compressed, chunks) for table, compressed, chunks in rows}
    assert counts.pop("candles_1m") == counts.pop("indicators_1m") == (3, 5)
    assert len(counts) == 10
    assert all(0 < compressed < chunks for compressed, chunks in counts.values())


@pytest.mark.timescale
def test_a_page_that_meets_another_writer(filled_timescale: Database) -> None:
    """COPY into a hypertable blocks on a bar that is not committed yet, and then gives way to the upsert."""
    if filled_timescale.slow:
        pytest.skip("it has one connection, and no COPY")
    engine, time_ms = filled_timescale.engine, bars.NOW + 60 * DAY_MS
    page = [official(bars.SOL, time_ms + n * MINUTE_MS, 5.0 + n) for n in range(50)]
    with engine.connect() as first, ThreadPoolExecutor(1) as pool, engine.connect() as second:
        candles.replace(first, [replace(page[7], close=9.0)])
        pid = second.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        pending = pool.submit(bulk.replace, second, page)
        try:
            until(lambda: first.execute(WAITS, {"pid": pid}).scalar(), every=0.01)
        finally:
            first.commit()
        changed = pending.result(10)
        stored = candles.read(second, bars.SOL, Timeframe.M1, start_ms=time_ms)
        second.rollback()
        retention.delete(first, Timeframe.M1, bars.SOL, time_ms, time_ms + DAY_MS)
        first.commit()
    assert len(changed) == 50
    assert [bar.close for bar in stored] == [bar.close for bar in page]
    assert [bar.revision for bar in stored[6:9]] == [0, 1, 0]


@pytest.mark.timescale
def test_no_row_is_passed_over(filled_timescale: Database) -> None:
    """Changing compressed bars changes all of them, by whatever plan the platform's own connections get.

    With a bitmap scan, which PostgreSQL would take here, TimescaleDB 2.23 up to PostgreSQL 16 does not see what the
    statement has just decompressed: of the 10,080 bars 6,000 went.
    """
    if filled_timescale.slow:
        pytest.skip("a hundred thousand bars are too many for it")
    with filled_timescale.engine.connect() as connection:
        connection.execute(A_WEEK)
        gone = retention.delete(connection, Timeframe.M1, 2, WEEK, WEEK + 7 * DAY_MS)
        day = range(WEEK + DAY_MS, WEEK + 2 * DAY_MS, MINUTE_MS)
        candles.verify(connection, [(i, time_ms) for i in range(3, 11) for time_ms in day])
        query = "SELECT count(*) FROM candles_1m WHERE state = 2 AND time >= '2019-12-05'"
        verified = connection.execute(sa.text(query)).scalar_one()
        connection.rollback()
    assert (gone, verified) == (7 * 1440, 8 * 1440)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, database: Database, reference: Reference) -> None:
    case = CASES[name]
    expected = reference.outcome(case)
    if not database.hypertables:
        assert reference.changed(expected) == case.changed
        return
    tables = case.changed if database.slow else TABLES
    found = database.run(case.body, by_engine=case.by_engine, tables=tables)
    assert found.answer == expected.answer
    unequal = [table for table in found.digests if found.digests[table] != expected.digests[table]]
    if unequal:
        again = database.run(case.body, by_engine=case.by_engine, tables=(), rows=lambda _: unequal)
        assert again.rows == {table: expected.rows.get(table, reference.start.rows[table]) for table in unequal}
    assert not unequal, "a table changed, and not when the case was run again"


# Statements that no case sends through SQLAlchemy, and why.
UNHEARD = {
    "bulk.insert": "COPY, by the driver",
    "bulk.stage": "COPY, by the driver",
    "bulk.take_back": "somebody else was faster",
    "screening.newest": "the columns of the indicators are put in",
}


@pytest.mark.timescale
def test_any_sequence_of_writes(plain: Database, filled_timescale: Database) -> None:
    @settings(max_examples=4 if filled_timescale.slow else 25, deadline=None)
    @given(steps=st.lists(sequences.steps, min_size=2, max_size=8))
    def check(steps: list[sequences.Step]) -> None:
        body, tables = sequences.replayed(steps), sequences.TABLES
        expected = plain.run(body, tables=tables)
        found = filled_timescale.run(body, tables=tables)
        assert found.answer == expected.answer
        unequal = [table for table in tables if found.digests[table] != expected.digests[table]]
        if unequal:
            ours, theirs = (each.run(body, tables=(), rows=lambda _: unequal) for each in (plain, filled_timescale))
            assert theirs.rows == ours.rows

    check()


def test_every_function_has_a_case() -> None:
    covered = {function for case in CASES.values() for function in case.covers}
    functions = public_functions()
    missing = sorted(name for name, function in functions.items() if function not in covered and name not in EXEMPT)
    assert EXEMPT.keys() <= functions.keys(), "these are no more"
    assert not missing, f"no case calls them on both databases: {', '.join(missing)}"


@pytest.mark.timescale
def test_every_statement_is_sent(plain: Database, filled_timescale: Database, reference: Reference) -> None:
    """Each named block of SQL, by some case on one of the two; those before this test were heard already."""
    for case in CASES.values():
        reference.outcome(case)
    if not _unsent(plain.heard | filled_timescale.heard):
        return
    for case in CASES.values():
        filled_timescale.run(case.body, by_engine=case.by_engine, tables=())
    assert _unsent(plain.heard | filled_timescale.heard) == []


def _unsent(heard: set[str]) -> list[str]:
    """The blocks that are no part of what was heard."""
    everything = "\n".join(heard)
    found = []
    for file, name in blocks():
        texts = [sql(file, name, tf).text.strip() for tf in Timeframe]
        if f"{file}.{name}" not in UNHEARD and not any(text in everything for text in texts):
            found.append(f"{file}.{name}")
    return found
