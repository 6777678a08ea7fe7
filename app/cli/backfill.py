"""`backfill`: fetch history from an exchange, look how far it is, end it."""

from __future__ import annotations

from typing import Annotated

import typer

SymbolsOption = Annotated[
    list[str], typer.Option("--symbol", "-s", help="BTC/USDT (or BTC-USDT), AAPL; may be given several times")
]


def backfill(
    symbols: SymbolsOption = [],  # noqa: B006  # typer takes a list only
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every symbol of the watchlist.")] = False,
    start: Annotated[str, typer.Option("--start", help="Needed. First moment, UTC: 2026-11-01 or …T09:30.")] = "",
    end: Annotated[str, typer.Option("--end", help="Last moment, exclusive; now where it is left out.")] = "",
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="binance, alpaca, yahoo; --all: of all")] = "",
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d")] = "1m",
    keep: Annotated[bool, typer.Option("--keep", help="Also what is older than bars are kept; it stays then.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until it is done.")] = True,
    listing: Annotated[bool, typer.Option("--list", help="Show those at work and the latest; fetch nothing.")] = False,
    cancel: Annotated[
        int, typer.Option("--cancel", metavar="ID", help="End this one; what it stored stays.", show_default=False)
    ] = 0,
) -> None:
    """Fetch the bars of a range from the exchange; what is there already is not asked for again.

    The platform does the work: Ctrl-C ends the display only, and after a crash it goes on where it was.

    Example: [bold]python -m app backfill --symbol BTC/USDT --start 2026-11-01 --end 2026-11-08[/]
    """
    from app.cli.backfill_view import follow, show
    from app.cli.backfilling import end as end_it
    from app.cli.backfilling import request
    from app.errors import BadInput

    if listing:
        show()
    elif cancel:
        end_it(cancel)
    elif not start:
        raise BadInput("missing option '--start' (see `python -m app backfill --help`)")
    elif everything == bool(symbols):
        raise BadInput("say what to fetch: either --symbol, once or several times, or --all")
    else:
        settings, wanted = request(
            symbols=symbols, exchange=exchange, timeframe=timeframe, start=start, end=end, keep=keep
        )
        for backfill_id, name in wanted.items():
            print(f"backfill {backfill_id} is queued: {name} {timeframe}")
        if wait:
            follow(settings, wanted)
