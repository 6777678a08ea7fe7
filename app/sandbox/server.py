"""The simulated market as a server: one process, one loopback port, all protocols."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from app.errors import BadInput, ServerFailed
from app.sandbox.alpaca.door import open_doors
from app.sandbox.alpaca.pump import StockPump
from app.sandbox.binance.hub import Hub
from app.sandbox.binance.limits import WeightLimit
from app.sandbox.binance.pump import Pump
from app.sandbox.binance.rest import RestDoor
from app.sandbox.binance.streams import StreamDoor, StreamLimits
from app.sandbox.catalogue import characters
from app.sandbox.clock import MarketClock
from app.sandbox.control import ControlDoor
from app.sandbox.fault_box import FaultBox, FaultList
from app.sandbox.faults import Fault
from app.sandbox.generated import GeneratedTape
from app.sandbox.market import Market
from app.sandbox.recorded import RecordedTape, load_tapes
from app.sandbox.rest_faults import rest_faults
from app.sandbox.series import MINUTE_US
from app.sandbox.stock_faults import StockFault
from app.sandbox.stocks.control import StockControl
from app.sandbox.stocks.listing import listings
from app.sandbox.stocks.market import StockMarket
from app.sandbox.tape import Row, Tape
from app.sandbox.yahoo.door import YahooDoor

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What the market plays and how; times are exchange time in µs."""

    host: str = "127.0.0.1"
    port: int = 8010
    speed: float = 1.0
    seed: int = 7
    symbols: tuple[str, ...] = ()
    trades_per_second: float = 4.0
    stocks: tuple[str, ...] | None = None  # None: those of the platform's watchlist, where nothing else is chosen
    stock_trades_per_second: float = 2.0
    yahoo_delay_s: float = 900.0
    history_hours: int = 72
    replay: tuple[Path, ...] = ()
    start_us: int | None = None
    end_us: int | None = None
    paused: bool = False
    faults: tuple[Fault, ...] = ()
    stock_faults: tuple[StockFault, ...] = ()
    chaos: int | None = None
    weight_limit: int = 6000
    alpaca_limit: int = 200
    limits: StreamLimits = field(default_factory=StreamLimits)


def build_market(config: SandboxConfig) -> Market:
    """The market the configuration asks for; raises BadInput or BadFile."""
    recorded = load_tapes(config.replay, seed=config.seed)
    start_us = config.start_us if config.start_us is not None else _default_start(recorded)
    if config.end_us is not None and config.end_us <= start_us:
        raise BadInput("--end must lie after --start")
    clock = MarketClock(_wall_us, start_us=start_us, speed=config.speed, running=not config.paused)
    # History begins at a midnight, so that no kline is cut in two; without history, at the start's minute.
    unit_us = DAY_US if config.history_hours else MINUTE_US
    oldest_us = (start_us - config.history_hours * 3_600_000_000) // unit_us * unit_us
    tapes: list[tuple[Tape, int]] = []
    for tape in recorded:
        tapes.append((tape.until(config.end_us) if config.end_us else tape, tape.span_us[0] // MINUTE_US * MINUTE_US))
    if config.symbols or not recorded:
        for character, per_second in characters(config.symbols, config.trades_per_second):
            tapes.append((GeneratedTape(character, seed=config.seed, per_second=per_second), oldest_us))
    return Market(clock, tapes, _build_stocks(config, start_us=start_us, oldest_us=oldest_us))


def _build_stocks(config: SandboxConfig, *, start_us: int, oldest_us: int) -> StockMarket:
    chosen = config.stocks
    if chosen is None:
        found = [] if config.symbols or config.replay else listings((), config.stock_trades_per_second)
    else:
        found = listings(chosen, config.stock_trades_per_second) if chosen else []
    stocks = StockMarket(found, seed=config.seed, start_us=start_us, oldest_us=oldest_us)
    for fault in config.stock_faults:
        stocks.add_fault(fault, now_us=start_us)
    return stocks


def _default_start(recorded: list[RecordedTape]) -> int:
    if not recorded:
        return _wall_us()
    return min(tape.span_us[0] for tape in recorded) // MINUTE_US * MINUTE_US


def build_app(config: SandboxConfig) -> web.Application:
    """The web application of the market."""
    market, hub = build_market(config), Hub()
    faults = FaultList(config.faults)
    streamed = FaultBox[Row](faults, exchange="binance", wall_s=time.monotonic, now_us=market.now_us)
    pump = Pump(market, hub, streamed, wall_s=time.monotonic)
    alpaca = open_doors(market, faults, requests_per_minute=config.alpaca_limit)
    stocks = StockControl(market.stocks, now_us=market.now_us, told=lambda time_us: market.clock.push(time_us + 1))
    control = ControlDoor(market, (pump, alpaca.pump), faults, stocks)
    if config.chaos is not None:
        control.add_chaos(config.chaos, until_us=config.end_us or market.clock.start_us + DAY_US)
    app = web.Application(client_max_size=64 * 1024, middlewares=[rest_faults(faults, now_us=market.now_us)])
    app.add_routes([*control.routes(), *stocks.routes(), *alpaca.routes, *_yahoo(config, market, faults).routes()])
    limit = WeightLimit(config.weight_limit, wall_s=time.time)
    app.add_routes(RestDoor(market, limit, skew_ms=streamed.skew_ms).routes())
    app.add_routes(StreamDoor(hub, pump, config.limits).routes())
    app.cleanup_ctx.append(_pumping(pump))
    app.cleanup_ctx.append(_pumping(alpaca.pump))

    async def hang_up(_: web.Application) -> None:
        hub.cut_all()
        alpaca.hub.cut_all()

    app.on_shutdown.append(hang_up)
    return app


def _yahoo(config: SandboxConfig, market: Market, faults: FaultList) -> YahooDoor:
    box = FaultBox[Row](faults, exchange="yahoo", wall_s=time.monotonic, now_us=market.now_us)
    return YahooDoor(
        market.stocks,
        now_us=market.now_us,
        delay_s=config.yahoo_delay_s,
        revise=lambda: box.hit("revise") is not None,
    )


def _pumping(pump: Pump | StockPump) -> Callable[[web.Application], AsyncIterator[None]]:
    """What keeps a pump going while the application runs."""

    async def pumping(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(pump.run(), name=type(pump).__name__)
        task.add_done_callback(_end_with_pump)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return pumping


def _end_with_pump(task: asyncio.Task[None]) -> None:
    """A market whose pump broke must not look alive: the process ends with the reason."""
    if not task.cancelled() and (error := task.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler({"message": "the market's pump broke", "exception": error})
        raise SystemExit(1)


async def serve(config: SandboxConfig) -> None:
    """Serve until cancelled; says the address on the console once the port is open."""
    runner = web.AppRunner(build_app(config), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.host, config.port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            place, reason = f"{config.host}:{config.port}", os.strerror(error.errno or 0)
            raise ServerFailed(f"the simulated market cannot listen on {place}: {reason}") from error
        port = runner.addresses[0][1]
        print(f"simulated market ready on http://{config.host}:{port}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _wall_us() -> int:
    return time.time_ns() // 1000
