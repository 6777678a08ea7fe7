"""The tests of docs/sql.md on TimescaleDB, whose hypertables plan and store differently."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.storage import migrate
from tests import sql_docs
from tests.integration.test_sql_docs import (  # noqa: F401  (pytest runs them here as well)
    ASK,
    connection,
    plan_of,
    test_a_join_by_id_reads_one_instrument,
    test_a_minute_without_a_price_is_no_bar,
    test_a_query_gives_what_is_true,
    test_a_query_reads_the_tables_of_its_timeframe_only,
    test_a_symbol_reaches_the_primary_key,
    test_indicators_are_null_for_as_many_bars_as_the_page_says,
    test_indicators_stand_beside_their_bars,
    test_the_example_for_python,
    test_the_reader_may_read_everything_and_change_nothing,
    test_the_view_shows_every_bar_as_it_is,
)
from tests.sql_fill import fill

pytestmark = pytest.mark.timescale

OLD = """
SELECT compress_chunk((quote_ident(chunk_schema) || '.' || quote_ident(chunk_name))::regclass, true)
FROM timescaledb_information.chunks WHERE hypertable_name IN ('candles_1h', 'candles_1d', 'indicators_1d')
"""


@pytest.fixture(scope="module")
def stored(timescale_url: str, timescale_engine: sa.Engine) -> Iterator[sa.Engine]:
    """A database with the whole known market in it, hours and days compressed."""
    migrate.upgrade(timescale_url)
    fill(timescale_engine)
    with timescale_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as client:
        client.exec_driver_sql(sql_docs.FREEZE)
        assert client.exec_driver_sql(OLD).all()
        client.exec_driver_sql("CALL refresh_continuous_aggregate('quality_1h', NULL, '2025-11-28 12:00+00')")
        client.exec_driver_sql("ANALYZE")
    yield timescale_engine
    timescale_engine.dispose()


def test_old_chunks_are_left_alone(connection: sa.Connection) -> None:  # noqa: F811
    chunks = connection.exec_driver_sql("SELECT count(*) FROM show_chunks('candles_1m')").scalar_one()
    assert chunks > 1
    assert f"Chunks excluded during startup: {chunks - 1}" in plan_of(connection, ASK)
