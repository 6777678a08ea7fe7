"""The Alpaca streamer as a process, on a real database and Redis."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import redis
import sqlalchemy as sa

from app.cache import health, keys
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import ROOT, Settings
from app.storage import sessions
from app.wire import alpaca as wire
from app.wire import alpaca_values as values
from tests.alpaca_door import OPEN_US, SESSION, Door, door, trade

NAME = "streamer-alpaca"


async def until(happened: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true answer; fails after so many seconds."""
    end_s = asyncio.get_running_loop().time() + seconds
    while not (answer := happened()):
        assert asyncio.get_running_loop().time() < end_s, f"not in {seconds} s"
        await asyncio.sleep(0.05)
    return answer


@asynccontextmanager
async def process(settings: Settings, there: Door, log: list[str], **environment: str) -> AsyncIterator[Any]:
    """`python -m streamers alpaca` on these servers; its log is in `log` once it has ended."""
    values = {
        "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "LOG_DIR": str(settings.log_dir),
        "DATA_DIR": str(settings.data_dir), "BINANCE_API_URL": there.url, "PATH": "/usr/bin:/bin",
        "ALPACA_STREAM_URL": there.url.replace("http", "ws", 1), **environment,
    }  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamers", "alpaca", cwd=ROOT, env=values, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(child.communicate(), 60)
        log.append(said.decode())
        assert child.returncode == 0, log


async def test_it_streams_says_so_and_ends_clean(
    settings: Settings, redis_client: redis.Redis, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        sessions.put(connection, "XNYS", [SESSION])
    queue, log = TradeQueue(make_publisher(settings)), list[str]()
    quote = values.Quote("AAPL", OPEN_US + 10**9, "V", 126.5, 3, "Q", 127, 4, ("R",), "C")
    halt = values.Status("MSFT", OPEN_US + 10**9, "H", "Halt", "T1", "News", "C")
    async with door() as there, process(settings, there, log):
        await until(lambda: health.read(redis_client).get(NAME, {}).get("feed") == "connected" and there.sockets)
        await asyncio.sleep(0.5)  # the sessions are read
        before = queue.waiting(0)
        await there.send(
            trade("AAPL", 1, 126.5), trade("AAPL", -1, 126.5), wire.build_quote(quote), wire.build_status(halt)
        )
        await until(lambda: queue.waiting(0) > before)
        facts = await until(lambda: (f := health.read(redis_client)[NAME]) and f["trades"] == 1 and f)
        assert facts["instruments"] == 7 and facts["exchange"] == "alpaca" and facts["at"] > 0
        assert facts["dropped"] == {"outside_session": 1} and facts["error"] is None
        await until(lambda: health.counters(redis_client).get("outside_session") == 1)
        book = await until(lambda: redis_client.hget(keys.BOOK, "alpaca:AAPL"))
        assert orjson.loads(book)["ask"] == 127
        assert orjson.loads(await until(lambda: redis_client.hget(keys.HALTS, "alpaca:MSFT")))["code"] == "H"
        assert there.keys == [("sandbox", "sandbox")]
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE instruments SET active = false WHERE symbol = 'META'"))
        redis_client.publish(keys.WATCHLIST, "{}")
        await until(lambda: health.read(redis_client)[NAME]["instruments"] == 6)
        assert there.attempts == 1
    assert NAME not in health.read(redis_client)
    assert "Traceback" not in log[0] and "stopped after 1 trades" in log[0]


async def test_a_wrong_key_is_said_once_and_the_process_stays(settings: Settings, redis_client: redis.Redis) -> None:
    log = list[str]()
    async with door(refuse=(402, "auth failed")) as there:
        async with process(settings, there, log, ALPACA_API_KEY="wrong", ALPACA_SECRET_KEY="hush-hush") as child:
            facts = await until(lambda: (f := health.read(redis_client).get(NAME, {})).get("feed") == "refused" and f)
            assert "auth failed" in facts["error"] and "ALPACA_API_KEY" in facts["error"]
            await asyncio.sleep(2)
            assert child.returncode is None and there.attempts == 1 and there.keys == [("wrong", "hush-hush")]
    assert log[0].count("auth failed") == 1 and "hush-hush" not in log[0] and "Traceback" not in log[0]


async def test_without_a_key_it_says_so_and_stays(settings: Settings, redis_client: redis.Redis) -> None:
    log = list[str]()
    async with door() as there, process(settings, there, log, MARKET="live"):
        facts = await until(lambda: (f := health.read(redis_client).get(NAME, {})).get("feed") == "no_key" and f)
        assert "ALPACA_SECRET_KEY" in facts["error"]
    assert there.attempts == 0 and "Traceback" not in log[0]
