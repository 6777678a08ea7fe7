"""`backfill`: fetch history from an exchange."""

from __future__ import annotations

from typing import Annotated

import typer


def backfill(
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="BTC/USDT (or BTC-USDT)")],
    start: Annotated[str, typer.Option("--start", help="First moment, UTC: 2026-11-01 or 2026-11-01T09:30.")],
    end: Annotated[str, typer.Option("--end", help="Last moment, exclusive; now where it is left out.")] = "",
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="binance")] = "binance",
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d")] = "1m",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until it is done.")] = True,
) -> None:
    """Fetch the bars of a range from the exchange; what is there already is not asked for again.

    Example: [bold]python -m app backfill --symbol BTC/USDT --start 2026-11-01 --end 2026-11-08[/]
    """
    from app.cli.backfilling import follow, request

    settings, backfill_id = request(symbol=symbol, exchange=exchange, timeframe=timeframe, start=start, end=end)
    print(f"backfill {backfill_id} is queued")
    if wait:
        follow(settings, backfill_id)
