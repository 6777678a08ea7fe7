"""`python -m app.sandbox`: run the simulated market."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.config import Settings, load_settings
from app.errors import PlatformError
from app.sandbox.binance.streams import StreamLimits
from app.sandbox.faults import parse_faults
from app.sandbox.server import SandboxConfig, serve
from app.sandbox.stock_faults import take_stock_faults


def parse_args(argv: Sequence[str]) -> SandboxConfig:
    """The configuration of the command line; what it leaves out comes from the settings."""
    settings = load_settings()
    parser = argparse.ArgumentParser(
        prog="python -m app.sandbox", description="A market that speaks Binance, Alpaca and Yahoo."
    )
    add = parser.add_argument
    add("--host", default=settings.sandbox_host)
    add("--port", type=int, default=settings.sandbox_port, help="0 takes a free one (default: %(default)s)")
    add("--speed", type=float, default=settings.sandbox_speed, help="exchange seconds a second (default: %(default)s)")
    add("--seed", type=int, default=settings.sandbox_seed)
    add("--symbols", default="", help="BTC/USDT,…; default: a catalogue of twenty, or none beside --replay")
    add("--rate", type=float, default=settings.sandbox_trades_per_second, help="trades a second (default: %(default)s)")
    add("--stocks", help='"AAPL,THYAO.IS", or none; default: the watchlist\'s, none beside --symbols or --replay')
    add("--stock-rate", type=float, default=2.0, help="trades a second of all stocks in session (default: %(default)s)")
    add("--yahoo-delay-s", type=float, default=900.0, help="Yahoo's bars come so late (default: %(default)s)")
    add(
        "--history-hours", type=int, default=settings.sandbox_history_hours, help="history, from a midnight; 0 for none"
    )
    add("--replay", type=Path, nargs="+", default=[], metavar="FILE", help="Binance bulk files (aggTrades, trades)")
    add("--start", type=_time, help="exchange time at the start; default: now, or the replay's first minute")
    add("--end", type=_time, help="replay no trades from then on")
    add("--paused", action="store_true", help="let the clock wait for POST /sandbox/start")
    add("--faults", default="", help='e.g. "duplicate:probability=0.1,seed=3;disconnect:after=500"')
    add("--chaos", type=int, metavar="SEED", help="every fault at random, up to --end or for a day of exchange time")
    add("--weight-limit", type=int, default=6000, help="request weight a minute (default: %(default)s)")
    add("--alpaca-limit", type=int, default=200, help="Alpaca's requests a minute and key (default: %(default)s)")
    add("--lifetime-s", type=float, default=24 * 3600.0, help="longest life of a stream connection")
    add("--ping-s", type=float, default=20.0, help="seconds between pings")
    args = parser.parse_args(argv)
    stock_faults, faults = take_stock_faults(args.faults)
    return SandboxConfig(
        host=args.host,
        port=args.port,
        speed=args.speed,
        seed=args.seed,
        symbols=_symbols(args.symbols),
        trades_per_second=args.rate,
        stocks=None if args.stocks is None else _symbols(args.stocks),
        stock_trades_per_second=args.stock_rate,
        yahoo_delay_s=args.yahoo_delay_s,
        history_hours=args.history_hours,
        replay=tuple(args.replay),
        start_us=_start(settings, args.speed) if args.start is None and not args.replay else args.start,
        end_us=args.end,
        paused=args.paused,
        faults=tuple(parse_faults(faults)),
        stock_faults=tuple(stock_faults),
        chaos=args.chaos,
        weight_limit=args.weight_limit,
        alpaca_limit=args.alpaca_limit,
        limits=StreamLimits(ping_s=args.ping_s, lifetime_s=args.lifetime_s),
    )


def _symbols(text: str) -> tuple[str, ...]:
    """The symbols of a list with commas; `none` for none."""
    if text.strip().lower() == "none":
        return ()
    return tuple(symbol.strip().upper() for symbol in text.split(",") if symbol.strip())


def _start(settings: Settings, speed: float) -> int | None:
    """Where the market's clock begins: SANDBOX_START, or where a market that was started before would be by now."""
    begin = _time(settings.sandbox_start) if settings.sandbox_start else None
    if not settings.sandbox_since:
        return begin
    since_us = int(settings.sandbox_since * 1_000_000)
    passed_us = max(0, time.time_ns() // 1000 - since_us)
    return (since_us if begin is None else begin) + int(passed_us * speed)


def _time(text: str) -> int:
    """ISO 8601 (UTC where it says nothing) as µs."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def main(argv: Sequence[str]) -> int:
    """Run until SIGINT or SIGTERM; the exit code is 2 for bad arguments."""
    try:
        config = parse_args(argv)
        asyncio.run(_run(config))
    except PlatformError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


async def _run(config: SandboxConfig) -> None:
    task = asyncio.ensure_future(serve(config))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return  # asked to stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
