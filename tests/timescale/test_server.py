"""The fixture's server: what a PostgreSQL client may expect of it, and what TimescaleDB does there.

Every test but those of its own server holds for a real TimescaleDB as well (TEST_TIMESCALE_URL).
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import text

pytestmark = pytest.mark.timescale


def test_sqlalchemy_selects(timescale_engine: sa.Engine) -> None:
    with timescale_engine.connect() as connection:
        assert connection.execute(text("SELECT 1 + :n"), {"n": 2}).scalar_one() == 3
