"""`import`: Binance's public bulk files; trades enter the way live ones do, klines as the exchange's own bars."""

from __future__ import annotations

import re
import secrets
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.cli.keeping import Arrival
    from app.config import Settings
    from app.domain.instruments import Instrument
    from app.services.importing import Checked, Counts, Reader

RUN_BITS = 62
AHEAD_US = 60_000_000  # a trade may be so much later than this machine's clock
SYMBOL = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{2,20}")


def import_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="aggTrades, trades or klines; csv or zip.")],
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="What the files hold: XRP/ETH (or XRP-ETH).")],
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="Whose files they are: binance.")] = "binance",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Import the good rows and list the others.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Also what is older than bars are kept; it stays then.")] = False,
) -> None:
    """Import Binance's public bulk files; running it again adds nothing.

    Every file is read wholly first: with a bad row nothing is written.

    The command ends when all bars of the files are closed, rolled up and indicated.

    Klines are known by their name: XRPETH-1m-2019-10.zip. They are stored as the exchange's own, verified bars.

    Example: [bold]python -m app import --symbol XRP/ETH XRPETH-aggTrades-2019-10-*.zip[/]
    """
    from app.cli import importing_klines
    from app.cli.keeping import admit_all
    from app.cli.platform import attached_settings, database
    from app.wire.binance_files import read_batches

    name = _binance_symbol(exchange, symbol)
    klines = importing_klines.check(files, name, skip_bad=skip_bad)
    rest = [path for path in files if path not in {file.path for file in klines}]
    _check_names(rest, name)
    # The files are of the real exchange, whatever market runs here; both readings have the same bound.
    reader = partial(read_batches, until_us=time.time_ns() // 1000 + AHEAD_US)
    checked = _check(rest, reader, skip_bad=skip_bad) if rest else None
    settings = attached_settings()
    with database(settings) as connection:
        admit_all(connection, [*_arrivals(checked), *importing_klines.arrivals(klines)], keep=keep)
    if checked is not None:
        instrument, counts = _send(settings, checked, name, reader=reader)
        _report(checked, instrument, counts)
    if klines:
        importing_klines.store(settings, klines, name)


def _binance_symbol(exchange: str, symbol: str) -> str:
    from app.domain.instruments import Exchange, canonical
    from app.errors import BadInput
    from app.storage.catalog import exchange_named

    if exchange_named(exchange) is not Exchange.BINANCE:
        raise BadInput(f"import reads Binance's bulk files; there are none of {exchange}")
    name = canonical(symbol)
    if not SYMBOL.fullmatch(name):
        raise BadInput(f"{symbol!r} is not a symbol of binance: write it like XRP/ETH")
    return name


def _check_names(files: list[Path], symbol: str) -> None:
    """Raises BadInput where the name of a file of trades, or of one in its zip, says another symbol."""
    from app.domain.instruments import Exchange, describe
    from app.errors import BadInput
    from app.wire.binance_bulk import trades_names

    wire_symbol, *_ = describe(Exchange.BINANCE, symbol)
    for path in files:
        for shown, named in trades_names(path):
            if named != wire_symbol:
                raise BadInput(f"{shown} holds {named} by its name, not {symbol}; nothing was imported")


def _check(files: list[Path], reader: Reader, *, skip_bad: bool) -> Checked:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from app.errors import BadFile, BadInput
    from app.services.importing import check

    columns = (SpinnerColumn(), TextColumn("checking the files: {task.completed:,.0f} trades"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        try:
            return check(files, reader, skip_bad=skip_bad, advance=lambda n: progress.advance(task, n))
        except BadFile as error:
            raise BadInput(f"{error}; nothing was imported (--skip-bad lists what is bad, imports the rest)") from error


def _arrivals(checked: Checked | None) -> list[Arrival]:
    from app.cli.keeping import Arrival
    from app.domain.timeframes import Timeframe

    if checked is None:
        return []
    first = min(checked.files, key=lambda facts: facts.first_us)
    return [Arrival(str(first.path), Timeframe.M1, checked.span_ms[0])]


def _send(settings: Settings, checked: Checked, symbol: str, *, reader: Reader) -> tuple[Instrument, Counts]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from app.cache import keys
    from app.cache.pubsub import publish
    from app.cache.trade_queue import TradeQueue, make_publisher
    from app.cli.platform import cache, database
    from app.domain.instruments import Exchange
    from app.services.importing import Importer
    from app.storage import catalog
    from app.storage.engine import make_engine
    from app.storage.imports import ImportProgress

    exchange = Exchange.BINANCE.value
    with database(settings) as connection:
        instrument = catalog.add(connection, exchange, symbol, active=False)
    with cache(settings) as redis:
        publish(redis, keys.WATCHLIST, {})
    engine = make_engine(settings, process="import")
    elapsed = TextColumn("{task.elapsed:.0f} s")  # rich's own column stands still once all rows are sent
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), elapsed)
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"importing {instrument.symbol}", total=checked.rows)

            def advance(rows: int) -> None:
                progress.advance(task, rows)
                if progress.tasks[0].completed >= checked.rows:
                    progress.update(task, description=f"closing the bars of {instrument.symbol}")

            importer = Importer(
                TradeQueue(make_publisher(settings)),
                ImportProgress(engine),
                reader,
                settings.flush_trades,
                settings.trade_shards,
                settings.visibility_timeout_s + 15.0,
            )
            run = secrets.randbits(RUN_BITS) + 1
            counts = importer.run(checked, instrument.id, exchange=exchange, run=run, advance=advance)
            progress.update(task, description=f"imported {instrument.symbol}")
    finally:
        engine.dispose()
    return instrument, counts


def _report(checked: Checked, instrument: Instrument, counts: Counts) -> None:
    if checked.rejected:
        print(f"rejected {checked.rejected:,}:", file=sys.stderr)
        for line in checked.shown:
            print(f"  {line}", file=sys.stderr)
        if checked.rejected > len(checked.shown):
            print(f"  … and {checked.rejected - len(checked.shown):,} more", file=sys.stderr)
    print(f"{instrument.symbol}: {checked.trades:,} raw trades in {len(checked.files)} file(s)")
    refused = f"  refused {counts.refused:,} (known in part)" if counts.refused else ""
    rejected = f"  rejected {checked.rejected:,}" if checked.rejected else ""
    print(f"read {checked.rows:,}  new {counts.accepted:,}  already known {counts.known:,}{refused}{rejected}")
