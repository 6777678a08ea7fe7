"""Outages one after the other, each longer than the platform's patience, then the same end: true, verified, no hole.

`OUTAGE_S=180 pytest tests/campaign/test_outages.py -s` keeps broker and database away for three minutes each.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.storage import holes
from tests.campaign.markets import Markets, markets
from tests.processes import until

SPEED = 20.0
AWAY_S = float(os.environ.get("OUTAGE_S", "22"))  # longer than a task waits for its database
BROKER_S = float(os.environ.get("OUTAGE_S", "10"))  # twice the platform's own OUTAGE_S
FEED_S = 40.0  # over twelve minutes of the market
START = datetime(2026, 11, 23, 14, 25, tzinfo=UTC)  # New York opens in five minutes, Istanbul closes in 35


@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_outage_heals_by_itself(tmp_path: Path) -> None:
    lo_ms = int(START.replace(hour=0, minute=0).timestamp() * 1000)
    market = {"start": f"{START:%Y-%m-%dT%H:%M}", "speed": SPEED, "history_hours": 14, "rate": 2, "stock_rate": 2}
    with markets(tmp_path, environment={"START_BACKFILL_HOURS": 12, "OUTAGE_S": 5}, **market) as parts:
        parts.start_workers()
        parts.sandbox.post("/sandbox/start", {})
        until(lambda: _stored(parts) > 200, seconds=90, what="bars are coming")
        parts.wait_for(int((START + timedelta(minutes=6)).timestamp() * 1000), speed=SPEED)
        _feed_down(parts)
        _broker_down(parts)
        _database_down(parts)
        _streamers_killed(parts)
        _everything_killed(parts)
        hi_ms = parts.now_ms() // 60_000 * 60_000
        parts.wait_for(hi_ms + 300_000, speed=SPEED)
        settled_s = parts.await_truth(lo_ms, hi_ms, seconds=400)
        print(f"\nsettled {settled_s:.0f} s after the last outage; {parts.counters()}")


def _feed_down(parts: Markets) -> None:
    """Minutes without any stream: holes while it lasts, healed by history meanwhile."""
    for exchange in ("binance", "alpaca"):
        parts.sandbox.fault("disconnect", exchange=exchange, duration_s=FEED_S)
    until(lambda: "feed down" in _causes(parts), seconds=FEED_S, what="the outage is a hole while it lasts")
    until(lambda: _connected(parts), seconds=FEED_S + 120, what="the streamers are back")


def _broker_down(parts: Markets) -> None:
    parts.redis.stop()
    time.sleep(BROKER_S)
    parts.redis.start()
    until(lambda: _connected(parts), seconds=120, what="the streamers beat again")


def _database_down(parts: Markets) -> None:
    parts.engine.dispose()
    parts.postgres.stop()
    time.sleep(AWAY_S)
    parts.postgres.start()
    until(lambda: _stored(parts) > 0, seconds=120, what="the database serves again")


def _streamers_killed(parts: Markets) -> None:
    parts.run.kill("streamer-binance")
    parts.run.kill("streamer-alpaca")
    time.sleep(8)
    parts.start_streamers()
    until(lambda: _connected(parts), seconds=120, what="the new streamers are connected")


def _everything_killed(parts: Markets) -> None:
    names = parts.run.kill_all()
    parts.engine.dispose()
    for server in (parts.redis, parts.postgres):
        assert server.process is not None
        server.process.kill()
        server.process.wait(60)
    time.sleep(10)
    parts.postgres.start()
    parts.redis.start()
    parts.start_workers()
    assert set(names) <= set(parts.run.running)
    until(lambda: _connected(parts), seconds=180, what="all is back")


def _stored(parts: Markets) -> int:
    with parts.engine.begin() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM candles_1m")) or 0)


def _causes(parts: Markets) -> set[str]:
    with parts.engine.begin() as connection:
        return {hole.cause for hole in holes.open_holes(connection, due_only=False)} | {
            str(row[0]) for row in connection.execute(sa.text("SELECT DISTINCT cause FROM holes"))
        }


def _connected(parts: Markets) -> bool:
    try:
        beats = parts.health()
    except (ConnectionError, OSError):
        return False
    wanted = ("streamer-binance", "streamer-alpaca")
    fresh = time.time() * 1000 - 10_000
    return all(beats.get(name, {}).get("feed") == "connected" and beats[name]["beat_ms"] > fresh for name in wanted)
