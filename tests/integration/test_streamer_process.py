"""The streamer as a process, and against an exchange that sends nonsense."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import redis
import sqlalchemy as sa
from aiohttp import web

from app.cache import health
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import ROOT, Settings
from app.local.servers import free_port
from tests.sandbox import RunningSandbox, start_sandbox
from tests.streaming import streaming


def until(happened: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true answer; fails after so many seconds."""
    end_s = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < end_s, f"not in {seconds} s"
        time.sleep(0.05)
    return answer


def start(settings: Settings, market: RunningSandbox, **environment: str) -> subprocess.Popen[str]:
    """`python -m streamers binance` on these servers."""
    values = {
        "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "LOG_DIR": str(settings.log_dir),
        "DATA_DIR": str(settings.data_dir), "BINANCE_API_URL": market.url, "BINANCE_STREAM_URL": market.stream_url,
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "streamers", "binance"],
        cwd=ROOT, env={**values, **environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _written(settings: Settings) -> str:
    """What the process has put into its log's file."""
    return "".join(path.read_text() for path in settings.log_dir.glob("streamer-binance*"))


def finish(process: subprocess.Popen[str]) -> str:
    """Ends the process by SIGTERM; its log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return log


def test_it_streams_says_so_and_ends_clean(settings: Settings, redis_client: redis.Redis) -> None:
    queue = TradeQueue(make_publisher(settings))
    with start_sandbox(symbols="BTC/USDT,ETH/USDT", rate=50, history_hours=1) as market:
        process = start(settings, market)
        try:
            until(lambda: health.read(redis_client).get("streamer-binance", {}).get("feed") == "connected")
            until(lambda: queue.waiting(0) > 5)
            facts = until(lambda: (f := health.read(redis_client)["streamer-binance"]) and f["trades"] > 0 and f)
            assert facts["instruments"] == 5 and facts["at"] > 0
        finally:
            log = finish(process)
    assert "streamer-binance" not in health.read(redis_client)
    assert "Traceback" not in log and "stopped after" in log


def test_it_waits_for_a_database_and_a_redis_that_are_away(settings: Settings) -> None:
    nowhere = free_port()
    with start_sandbox(symbols="BTC/USDT", history_hours=1) as market:
        process = start(
            settings, market,
            DATABASE_URL=f"postgresql://u:secret@127.0.0.1:{nowhere}/x", REDIS_URL=f"redis://127.0.0.1:{nowhere}/0",
        )  # fmt: skip
        try:
            until(lambda: all(text in _written(settings) for text in ("the watchlist cannot be read", "Redis away")))
            assert process.poll() is None
        finally:
            log = finish(process)
    assert "the watchlist cannot be read, trying again" in log
    assert "Redis away" in log
    assert "Traceback" not in log and "secret" not in log


def test_a_changed_watchlist_reaches_it(settings: Settings, redis_client: redis.Redis, engine: sa.Engine) -> None:
    def following() -> int:
        return int(health.read(redis_client).get("streamer-binance", {}).get("instruments", 0))

    with start_sandbox(symbols="BTC/USDT", history_hours=1) as market:
        process = start(settings, market)
        try:
            until(lambda: following() == 5)
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE instruments SET active = false WHERE symbol = 'ADA/USDT'"))
            redis_client.publish("watchlist", "{}")
            until(lambda: following() == 4)
        finally:
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE instruments SET active = true WHERE symbol = 'ADA/USDT'"))
            finish(process)


async def test_nonsense_is_counted_and_passed_over(tmp_path: Path) -> None:
    event = {"e": "trade", "E": 1_700_000_000_000, "s": "BTCUSDT", "t": 7, "p": "1.5", "q": "2", "T": 1_700_000_000_000}
    frames = [b"{", b"[]", b'"x"', orjson.dumps({**event, "m": "x", "p": "-1"}), orjson.dumps({"e": "trade"}), b"\xff"]
    good = orjson.dumps({"stream": "btcusdt@trade", "data": {**event, "m": False, "M": True}})

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        asked = orjson.loads((await socket.receive()).data)
        await socket.send_str(orjson.dumps({"result": None, "id": asked["id"]}).decode())
        for frame in (*frames, good):
            await socket.send_bytes(frame)
        await socket.receive()
        return socket

    async def clock(request: web.Request) -> web.Response:
        return web.json_response({"exchange_us": 1_700_000_001_000_000, "speed": 1.0, "wall_us": 0, "epoch": 1})

    application = web.Application()
    application.add_routes([web.get("/stream", stream), web.get("/sandbox/clock", clock)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    here: Any = type("Market", (), {"url": f"http://127.0.0.1:{port}", "stream_url": f"ws://127.0.0.1:{port}"})
    try:
        async with streaming(here, "BTC/USDT") as live:
            await live.until(lambda: live.queue.ids(1) == {7})
            assert live.streamer.stats.dropped == {"malformed_frame": len(frames)}
            assert live.streamer.stats.reconnects == 0
    finally:
        await asyncio.wait_for(runner.cleanup(), 60)
