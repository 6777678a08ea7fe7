"""The schema and the core on an older PostgreSQL than the embedded one: the wheel carries 16 as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.config import Settings
from app.domain.bars import Origin, State
from app.local.postgres import PostgresServer
from app.storage import migrate
from tests.factories import add_instrument, bars, settle
from tests.integration.test_races import batch, live, trade


class OlderServer(PostgresServer):
    """PostgreSQL 16."""

    folders = ("pginstall",)


@pytest.fixture
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = OlderServer(tmp_path_factory.mktemp("pg16"))
    server.start()
    yield server
    server.stop()


def test_bars_on_postgresql_16(older: PostgresServer, settings: Settings, redis_client: redis.Redis) -> None:
    migrate.upgrade(older.url)
    platform = Platform(settings.model_copy(update={"database_url": older.url, "start_backfill_hours": 0}), "tests")
    with platform.engine.begin() as connection:
        assert str(connection.scalar(sa.text("SHOW server_version"))).startswith("16.")
    instrument = add_instrument(platform.engine)
    trades = (trade(instrument, 1, 1, price=5), trade(instrument, 181, 2, price=6))
    platform.ingest.apply(batch(*trades, mark=live(1, 1, 400, instrument)))
    assert platform.ingest.apply(batch(*trades)).known == 2
    settle(platform)
    stored = bars(platform.engine, instrument)
    assert [(bar.close, bar.origin, bar.state) for bar in stored[:4]] == [
        (5.0, Origin.TRADES, State.CLOSED),
        (5.0, Origin.FLAT, State.CLOSED),
        (5.0, Origin.FLAT, State.CLOSED),
        (6.0, Origin.TRADES, State.CLOSED),
    ]
    assert bars(platform.engine, instrument, "5m")[0].trade_count == 2
    platform.engine.dispose()
    migrate.downgrade(older.url, "base")
