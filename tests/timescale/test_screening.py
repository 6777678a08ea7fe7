"""The statements of screens and of the overview on hypertables: what they find, and how many chunks they plan for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import migrate, screening
from app.storage.engine import database_url
from app.storage.screening import newest
from app.storage.sql import timed
from tests.integration.web_data import bar, store, store_indicators

pytestmark = [pytest.mark.timescale, pytest.mark.timeout(300)]
NOW_MS = 1_795_003_200_000
WEEKS = 8


@pytest.fixture(scope="module")
def engine(timescale_url: str) -> Iterator[sa.Engine]:
    """One connection at a time; minutes of two instruments in eight chunks."""
    migrate.upgrade(timescale_url)
    found = sa.create_engine(database_url(timescale_url), poolclass=sa.NullPool)
    for week in range(WEEKS):
        time_ms = NOW_MS - week * 7 * DAY_MS - 5 * MINUTE_MS
        store(found, [bar(1, time_ms + n * MINUTE_MS, price=100 + week + n) for n in range(4)])
        store_indicators(found, 1, {time_ms + 2 * MINUTE_MS: {"rsi_14": float(week)}})
    store(found, [bar(2, NOW_MS - 40 * DAY_MS, price=7)])
    yield found
    found.dispose()


def test_the_newest_bar_that_has_its_indicators_is_found(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        near = newest(conn, [1, 2], Timeframe.M1, lo_ms=NOW_MS - 6 * DAY_MS, hi_ms=NOW_MS + DAY_MS)
        far = newest(conn, [2], Timeframe.M1, lo_ms=NOW_MS - 60 * DAY_MS, hi_ms=NOW_MS - 6 * DAY_MS)
    assert set(near) == {1}
    assert (near[1]["time"], near[1]["rsi_14"], near[1]["close"]) == (NOW_MS - 3 * MINUTE_MS, 0.0, 103.0)
    assert near[1]["change_1"] == round((103 / 102 - 1) * 100, 4)
    assert far[2]["close"] == 8.0
    assert far[2]["rsi_14"] is None


def test_only_the_chunks_of_its_days_are_planned_for(engine: sa.Engine) -> None:
    values = {"ids": "{1,2}", "lo": NOW_MS - 6 * DAY_MS, "hi": NOW_MS + DAY_MS}
    statement = timed("EXPLAIN " + screening._newest_sql(Timeframe.M1).text)
    with engine.connect() as conn:
        plan = "\n".join(conn.execute(statement, values).scalars())
        chunks = conn.execute(sa.text("SELECT count(*) FROM show_chunks('candles_1m')")).scalar_one()
    touched = {word for word in plan.split() if word.startswith("_hyper_") and word.endswith("_chunk")}
    assert chunks >= WEEKS
    assert 1 <= len(touched) <= 4, plan  # two of bars, two of indicators
