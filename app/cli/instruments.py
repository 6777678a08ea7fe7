"""`instruments`: the watchlist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.config import Settings
    from app.services.watchlist import Added, Watchlist

app = typer.Typer(help="The watchlist: what is collected and shown.", no_args_is_help=True)

ExchangeOption = Annotated[str, typer.Option("--exchange", "-e", help="binance, alpaca or yahoo")]
WhichOption = Annotated[str, typer.Option("--exchange", "-e", help="Needed where several have the symbol.")]
SymbolArgument = Annotated[str, typer.Argument(metavar="SYMBOL", help="BTC/USDT (or BTC-USDT), AAPL, THYAO.IS")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also where the exchange cannot be asked, or does not trade the symbol now.")
]


@app.command("list")
def list_(
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="Only this exchange.")] = "",
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those not collected.")] = False,
) -> None:
    """Show the watchlist, and the state of the feed each symbol comes over."""
    from rich.console import Console
    from rich.table import Table

    from app.cli.platform import attached_settings, database
    from app.services.watchlist import feed_of
    from app.storage import catalog

    only = catalog.exchange_named(exchange) if exchange else None
    settings = attached_settings()
    with database(settings) as connection:
        rows = catalog.instruments(connection, active_only=not everything)
    beats = _heartbeats(settings)
    table = Table("exchange", "symbol", "active", "calendar", "feed", box=None, header_style="bold")
    for item in rows:
        if only is None or item.exchange is only:
            feed = "unknown: Redis is away" if beats is None else feed_of(item, beats)
            table.add_row(item.exchange.value, item.symbol, "yes" if item.active else "no", item.calendar, feed)
    Console().print(table)


@app.command("add")
def add(symbol: SymbolArgument, exchange: ExchangeOption = "binance", force: ForceOption = False) -> None:
    """Collect a symbol from now on; running streamers and pollers take it up within seconds."""
    from app.services.watchlist import shaped
    from app.storage.catalog import exchange_named

    where = exchange_named(exchange)
    shaped(where, symbol)
    with _watchlist() as watchlist:
        _say_added(watchlist.add(where, symbol, force=force))


@app.command("activate")
def activate(symbol: SymbolArgument, exchange: WhichOption = "", force: ForceOption = False) -> None:
    """Collect a symbol again that is known already (`instruments list --all`)."""
    with _watchlist() as watchlist:
        _say_added(watchlist.activate(symbol, exchange or None, force=force))


@app.command("deactivate")
@app.command("remove")
def remove(symbol: SymbolArgument, exchange: WhichOption = "") -> None:
    """Stop collecting a symbol; its bars stay, and `activate` or `add` takes it up again."""
    with _watchlist() as watchlist:
        item = watchlist.deactivate(symbol, exchange or None)
    print(f"{item.exchange.value} {item.symbol} is off the watchlist; its bars stay")


@app.command("look", hidden=True)
def look(symbol: SymbolArgument, exchange: ExchangeOption = "binance") -> None:
    """Print what an exchange lists of a symbol, or why it lists none, as a line of JSON: the web process asks so."""
    import json

    from app.bootstrap import platform
    from app.cli.platform import attached_settings
    from app.errors import PlatformError
    from app.services.watchlist import shaped
    from app.storage.catalog import exchange_named

    where = exchange_named(exchange)
    parts = platform(attached_settings(), process="cli")
    try:
        found = parts.watchlist.look(where, shaped(where, symbol))
        told = {name: getattr(found, name) for name in ("currency", "calendar", "price_decimals", "status")}
    except PlatformError as error:
        told = {"refused": type(error).__name__, "message": str(error)}
    print(json.dumps(told))


@contextmanager
def _watchlist() -> Iterator[Watchlist]:
    """The running platform's watchlist; its errors as the command line says them."""
    from app.bootstrap import platform
    from app.cli.platform import attached_settings, database_errors
    from app.errors import SourceError

    parts = platform(attached_settings(), process="cli")
    try:
        with database_errors():
            yield parts.watchlist
    except SourceError as error:
        raise SourceError(f"{error}; --force adds it unchecked") from error
    finally:
        parts.engine.dispose()


def _say_added(added: Added) -> None:
    import sys

    item = added.instrument
    print(f"{item.exchange.value} {item.symbol} is on the watchlist")
    if added.unchecked:
        print(f"not checked with its exchange: {added.unchecked}", file=sys.stderr)


def _heartbeats(settings: Settings) -> Mapping[str, Mapping[str, Any]] | None:
    from app.cache import health
    from app.cli.platform import cache
    from app.errors import Unavailable

    try:
        with cache(settings) as redis:
            return health.read(redis)
    except Unavailable:
        return None
