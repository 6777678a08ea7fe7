"""Recorded trades replayed by the simulated market through streamer, Celery and workers, with faults: the same bars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from app.cache.addresses import connect
from app.config import Settings
from app.domain.bars import State
from app.domain.timeframes import ROLLUPS, Timeframe
from app.local.redis import RedisServer
from app.storage import holes, ledger
from tests.factories import FILES, add_instrument, as_recorded, bars, numbers, recorded_minutes, waiting
from tests.integration.test_core_exact import decimal_roll_up
from tests.processes import Processes, processes, until
from tests.rabbitmq import RabbitServer
from tests.sandbox import RunningSandbox, start_sandbox


@contextmanager
def replaying(
    settings: Settings, redis_url: str, engine: sa.Engine, *, broker_url: str = "", **market: Any
) -> Iterator[tuple[Processes, RunningSandbox, int]]:
    """The whole path over a replay; the market's clock starts once the streamer is connected."""
    empty(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE instruments SET active = false"))
    instrument = add_instrument(engine, active=True)
    with start_sandbox(paused=True, **market) as sandbox:
        urls = {"binance_api_url": sandbox.url, "binance_stream_url": sandbox.stream_url, "redis_url": redis_url}
        here = settings.model_copy(update={**urls, "celery_broker_url": broker_url, "visibility_timeout_s": 4})
        with processes(here, START_BACKFILL_HOURS=0) as run:
            run.worker("trades")
            run.worker("bars")
            run.worker("history")
            run.beat()
            run.start("streamer", "-m", "streamers", "binance")
            until(lambda: connected(here.redis_url), seconds=120, what="the streamer connected")
            sandbox.start()
            yield run, sandbox, instrument


def empty(engine: sa.Engine) -> None:
    """Nothing is left of a run before."""
    with engine.begin() as connection:
        for tf in Timeframe:
            connection.execute(sa.text(f'TRUNCATE "candles_{tf.value}", "indicators_{tf.value}"'))
        connection.execute(sa.text("TRUNCATE ledger, feeds, feed_batches, touched, coverage, holes, official_1m"))


def connected(url: str) -> bool:
    """Whether the streamer's first run has begun: it is subscribed, so no trade can pass unseen."""
    client = connect(url)
    try:
        return json.loads(client.hget("system:health", "streamer-binance") or b"{}").get("runs", 0) > 0
    finally:
        client.close()


def kill_and_start(server: RedisServer | RabbitServer) -> None:
    """The broker gone as in a power cut, and back."""
    if isinstance(server, RabbitServer):
        server.kill()
    else:
        assert server.process is not None
        server.process.kill()
        server.process.wait(60)
    server.start()


def settled(engine: sa.Engine, instrument: int, first_ms: int, last_ms: int) -> bool:
    """Whether every minute of the window is there and closed, and nothing is left to repair or derive."""
    found = [bar for bar in bars(engine, instrument) if first_ms <= bar.time_ms <= last_ms]
    if len(found) != (last_ms - first_ms) // 60_000 + 1 or any(bar.state is State.OPEN for bar in found):
        return False
    with engine.begin() as connection:
        left = [hole for hole in holes.open_holes(connection, due_only=False) if hole.lo_ms <= last_ms]
        missing = ledger.gaps(connection)
    return not left and not missing and not waiting(engine).get("rollup")


def described(engine: sa.Engine, instrument: int, first_ms: int, last_ms: int, run: Processes) -> str:
    """What is not settled, for a failure's message."""
    found = {bar.time_ms: bar for bar in bars(engine, instrument) if first_ms <= bar.time_ms <= last_ms}
    absent = [(t - first_ms) // 60_000 for t in range(first_ms, last_ms + 1, 60_000) if t not in found]
    unclosed = [(t - first_ms) // 60_000 for t, bar in found.items() if bar.state is State.OPEN]
    with engine.begin() as connection:
        left = [
            ((hole.lo_ms - first_ms) // 60_000, (hole.hi_ms - first_ms) // 60_000, hole.cause, hole.attempts)
            for hole in holes.open_holes(connection, due_only=False)
        ]
        feeds = connection.execute(
            sa.text("SELECT run, since, clock, done, last_n, ended, subscribed FROM feeds")
        ).all()
        missing = ledger.gaps(connection)
    return (
        f"absent {absent}\nopen {unclosed}\nholes {left}\ngaps {missing}\nmarks {waiting(engine)}\n"
        + "\n".join(str(tuple(feed)) for feed in feeds)
        + run.said()
    )


def await_settled(
    engine: sa.Engine, instrument: int, first_ms: int, last_ms: int, run: Processes, seconds: float
) -> None:
    try:
        until(lambda: settled(engine, instrument, first_ms, last_ms), seconds=seconds, every=1)
    except AssertionError:
        raise AssertionError(described(engine, instrument, first_ms, last_ms, run)) from None


def check(engine: sa.Engine, instrument: int, minutes: dict[int, tuple[str, ...]], first_ms: int, last_ms: int) -> None:
    stored = {bar.time_ms: bar for bar in bars(engine, instrument) if first_ms <= bar.time_ms <= last_ms}
    wanted = {time_ms: row for time_ms, row in minutes.items() if first_ms <= time_ms <= last_ms}
    assert {t: as_recorded(bar) for t, bar in stored.items() if bar.trade_count} == {
        t: numbers(row) for t, row in wanted.items()
    }
    previous = None
    for time_ms in sorted(stored):
        bar = stored[time_ms]
        if not bar.trade_count and previous is not None:
            assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (previous,) * 4 + (0,)
        previous = bar.close
    for tf in ROLLUPS:
        rolled = {bar.time_ms: bar for bar in bars(engine, instrument, tf.value)}
        for start, row in decimal_roll_up(wanted, tf).items():
            if start >= first_ms and start + tf.ms <= last_ms + 60_000:
                assert as_recorded(rolled[start]) == row, (tf, start)
                assert rolled[start].state is not State.OPEN


@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.timeout(800)
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_two_hours_with_faults(
    settings: Settings,
    engine: sa.Engine,
    own_redis: RedisServer,
    shared_data: Path,
    broker: str,
    request: pytest.FixtureRequest,
) -> None:
    """600 times as fast; a fifth of the trades twice, a fifth late, the connection lost three times.

    Meanwhile the worker of trades is killed with a batch in its hands, and the broker is killed and comes back.
    """
    rabbit: RabbitServer | None = request.getfixturevalue("rabbit") if broker == "rabbitmq" else None
    first_ms = 1570773600000  # 2019-10-11 06:00
    last_ms = first_ms + 119 * 60_000
    faults = (
        "duplicate:probability=0.2,seed=3;reorder:probability=0.2,seed=4;disconnect:after=120,count=3,duration_s=0.5"
    )
    window = {"start": "2019-10-11T06:00", "end": "2019-10-11T08:00"}
    market = {"replay": [shared_data / FILES[0]], "speed": 600, "faults": faults, **window}
    url = rabbit.url if rabbit else ""
    with replaying(settings, own_redis.url, engine, broker_url=url, **market) as (run, sandbox, instrument):
        until(lambda: len(bars(engine, instrument)) > 20, seconds=120, every=0.05, what="bars are coming")
        run.kill("trades")
        run.worker("trades", node="trades-heir")
        until(lambda: len(bars(engine, instrument)) > 50, seconds=120, every=0.05, what="the heir works")
        kill_and_start(rabbit or own_redis)
        await_settled(engine, instrument, first_ms, last_ms, run, 180)
        check(engine, instrument, recorded_minutes(shared_data), first_ms, last_ms)
        faults_seen = sandbox.get("/sandbox/faults")
        client = redis.Redis.from_url(own_redis.url)
        assert bool(client.keys("_kombu*")) is (rabbit is None), "one broker only"
        counted = {name.decode(): int(value) for name, value in client.hgetall("system:counters").items()}
        client.close()
    assert [fault["fired"] for fault in faults_seen["faults"] if fault["kind"] == "disconnect"] == [3], faults_seen
    assert counted["known"] > 0 and counted["repaired_bars"] > 0, counted


@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.timeout(800)
def test_three_days_at_3600(settings: Settings, engine: sa.Engine, own_redis: RedisServer, shared_data: Path) -> None:
    """All recorded trades, an hour a second."""
    minutes = recorded_minutes(shared_data)
    first_ms, last_ms = min(minutes), max(minutes)
    files = [shared_data / name for name in FILES]
    with replaying(settings, own_redis.url, engine, replay=files, speed=3600) as (run, _, instrument):
        await_settled(engine, instrument, first_ms, last_ms, run, 400)
        check(engine, instrument, minutes, first_ms, last_ms)
