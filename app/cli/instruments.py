"""`instruments`: the watchlist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.config import Settings

app = typer.Typer(help="The watchlist: what is collected and shown.", no_args_is_help=True)

ExchangeOption = Annotated[str, typer.Option("--exchange", "-e", help="binance, alpaca or yahoo")]
SymbolArgument = Annotated[str, typer.Argument(metavar="SYMBOL", help="BTC/USDT (or BTC-USDT), AAPL, THYAO.IS")]


@app.command("list")
def list_(
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="Only this exchange.")] = "",
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those not collected.")] = False,
) -> None:
    """Show the watchlist."""
    from rich.console import Console
    from rich.table import Table

    from app.cli.platform import attached_settings, database
    from app.storage import catalog

    only = catalog.exchange_named(exchange) if exchange else None
    with database(attached_settings()) as connection:
        rows = catalog.instruments(connection, active_only=not everything)
    table = Table("exchange", "symbol", "class", "currency", "calendar", "collected", box=None, header_style="bold")
    for item in rows:
        if only is None or item.exchange is only:
            collected = "yes" if item.active else "no"
            table.add_row(item.exchange.value, item.symbol, item.asset_class, item.currency, item.calendar, collected)
    Console().print(table)


@app.command("add")
def add(symbol: SymbolArgument, exchange: ExchangeOption = "binance") -> None:
    """Collect a symbol from now on; running streamers take it up at once."""
    from app.cli.platform import attached_settings, database
    from app.storage import catalog

    _check_shape(symbol, exchange)
    settings = attached_settings()
    decimals = _listed(settings, symbol, exchange)
    with database(settings) as connection:
        item = catalog.add(connection, exchange, symbol, price_decimals=decimals)
    _announce()
    print(f"{item.exchange.value} {item.symbol} is on the watchlist")


@app.command("remove")
def remove(
    symbol: SymbolArgument,
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="Needed where several have the symbol.")] = "",
) -> None:
    """Stop collecting a symbol; its bars stay."""
    from app.cli.platform import attached_settings, database
    from app.storage import catalog

    with database(attached_settings()) as connection:
        item = catalog.find(connection, symbol, exchange or None)
        catalog.remove(connection, item.id)
    _announce()
    print(f"{item.exchange.value} {item.symbol} is off the watchlist; its bars stay")


def _announce() -> None:
    from app.cache import keys
    from app.cache.pubsub import publish
    from app.cli.platform import attached_settings, cache

    with cache(attached_settings()) as redis:
        publish(redis, keys.WATCHLIST, {})


def _listed(settings: Settings, symbol: str, exchange: str) -> int | None:
    """The decimals of the symbol's prices, as its exchange lists them; raises UnknownInstrument where it does not.

    A stream of an unknown symbol is silent for ever, so a slip of the pen has to be found here.
    """
    from app.domain.instruments import Exchange, canonical
    from app.errors import UnknownInstrument
    from app.sources.binance import BinanceHistory
    from app.storage.catalog import exchange_named

    if exchange_named(exchange) is not Exchange.BINANCE:
        return 2
    name = canonical(symbol)
    base, _, quote = name.partition("/")
    source = BinanceHistory(settings)
    try:
        info = source.exchange_info(base + quote)
    except UnknownInstrument:
        raise UnknownInstrument(f"unknown symbol {symbol!r}: {exchange} lists no {name}") from None
    finally:
        source.close()
    if (info.base, info.quote) != (base, quote):
        raise UnknownInstrument(f"unknown symbol {symbol!r}: {exchange} writes it {info.base}/{info.quote}")
    return info.price_decimals


def _check_shape(symbol: str, exchange: str) -> None:
    import re

    from app.domain.instruments import Exchange, canonical
    from app.errors import BadInput
    from app.storage.catalog import exchange_named

    name = canonical(symbol)
    crypto = exchange_named(exchange) is Exchange.BINANCE
    pattern, example = (r"[A-Z0-9]{1,20}/[A-Z0-9]{2,20}", "BTC/USDT") if crypto else (r"[A-Z0-9.^=\-]{1,20}", "AAPL")
    if not re.fullmatch(pattern, name):
        raise BadInput(f"{symbol!r} is not a symbol of {exchange}: write it like {example}")
