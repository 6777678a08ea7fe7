"""Two beats at once: twice the ticks, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery import Celery

from app.cache.trade_queue import make_publisher
from app.config import Settings
from app.domain.bars import State
from app.local.redis import RedisServer
from tests.factories import FILES, bars, recorded_minutes
from tests.integration.test_replay import await_settled, check, replaying
from tests.processes import until

FIRST_MS = 1570773600000  # 2019-10-11 06:00
LAST_MS = FIRST_MS + 39 * 60_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_only_more_ticks(settings: Settings, engine: sa.Engine, own_redis: RedisServer, shared_data: Path) -> None:
    """Forty minutes of the market in 20 s, closed, rolled up, verified and repaired by two beats' ticks."""
    window = {"start": "2019-10-11T06:00", "end": "2019-10-11T06:40", "speed": 120}
    client = make_publisher(settings.model_copy(update={"redis_url": own_redis.url}))
    try:
        with replaying(settings, own_redis.url, engine, replay=[shared_data / FILES[0]], **window) as (
            run,
            _,
            instrument,
        ):
            run.beat("beat-second")
            await_settled(engine, instrument, FIRST_MS, LAST_MS, run, 240)
            check(engine, instrument, recorded_minutes(shared_data), FIRST_MS, LAST_MS)
            until(lambda: verified(engine, instrument), seconds=120, what="all of it is verified")
            check(engine, instrument, recorded_minutes(shared_data), FIRST_MS, LAST_MS)
            # No bar was changed after it had closed: nothing was closed too early, nor done again with another result.
            assert {bar.revision for bar in bars(engine, instrument) if bar.time_ms <= LAST_MS} == {0}
            began, before = ticks(client)
            until(lambda: ticks(client)[1] - before >= 24, seconds=120, what="ticks go on")
            rate = (ticks(client)[1] - before) / (time.monotonic() - began)
            assert run.running["beat"].poll() is None and run.running["beat-second"].poll() is None
            assert rate > 1.3, "one beat gives one a second"
            run.kill("beat-second")
    finally:
        client.close()
    with engine.connect() as connection:
        twice = "SELECT instrument_id, lo, hi FROM holes GROUP BY 1, 2, 3 HAVING count(*) > 1"
        assert not connection.execute(sa.text(twice)).all(), "no hole is recorded twice"
        assert not connection.scalar(
            sa.text("SELECT count(*) FROM backfills WHERE instrument_id = :i"), {"i": instrument}
        )


def verified(engine: sa.Engine, instrument: int) -> bool:
    found = [bar for bar in bars(engine, instrument) if FIRST_MS <= bar.time_ms <= LAST_MS]
    return all(bar.state is State.VERIFIED for bar in found)


def ticks(client: Celery) -> tuple[float, int]:
    """When the workers were asked, and how many ticks to close they have had; again if theirs is busy just then."""

    def asked() -> tuple[float, int] | None:
        at = time.monotonic()
        stats = client.control.inspect(timeout=2).stats() or {}
        found = sum(node["total"].get("tasks.bars.close_due", 0) for node in stats.values())
        return (at, found) if found else None

    answer: tuple[float, int] = until(asked, what="the worker of bars says what it did")
    return answer
