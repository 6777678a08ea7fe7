"""`import` of klines: what the files' names say, the check, the import, the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from app.cli.keeping import Arrival
from app.cli.platform import cache, database
from app.domain.instruments import Exchange, describe
from app.domain.timeframes import Timeframe
from app.errors import BadFile, BadInput
from app.services.importing import SHOWN
from app.services.kline_import import KlineCounts, KlineFile, KlineImporter, check_klines
from app.wire.binance_kline_files import kline_name, read_klines

if TYPE_CHECKING:
    from app.config import Settings
    from app.domain.instruments import Instrument

HINT = "nothing was imported (--skip-bad lists what is bad, imports the rest)"


def check(files: Sequence[Path], symbol: str, *, skip_bad: bool) -> list[KlineFile]:
    """The klines files among `files`, read wholly; raises BadInput."""
    wire_symbol, *_ = describe(Exchange.BINANCE, symbol)
    named = [(path, name) for path in files if (name := kline_name(path)) is not None]
    for path, name in named:
        if name.wire_symbol != wire_symbol:
            raise BadInput(f"{path} holds {name.wire_symbol} by its name, not {symbol}; nothing was imported")
    if not named:
        return []
    columns = (SpinnerColumn(), TextColumn("checking the files: {task.completed:,.0f} klines"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        try:
            wanted = [(path, name.timeframe) for path, name in named]
            return check_klines(
                wanted, read_klines, skip_bad=skip_bad, advance=lambda bars: progress.advance(task, bars)
            )
        except BadFile as error:
            raise BadInput(f"{error}; {HINT}") from error


def arrivals(files: Sequence[KlineFile]) -> list[Arrival]:
    """What comes in with the files, the earliest of each timeframe."""
    first: dict[Timeframe, KlineFile] = {}
    for file in sorted(files, key=lambda item: item.first_ms):
        if file.rows:
            first.setdefault(file.timeframe, file)
    return [Arrival(str(file.path), tf, file.first_ms) for tf, file in first.items()]


def store(settings: Settings, files: Sequence[KlineFile], symbol: str) -> None:
    """Imports the checked files, shows how far it is and says what became of them."""
    from app.cache import keys
    from app.cache.pubsub import publish
    from app.storage import bulk, catalog, holes, outbox
    from app.storage.engine import make_engine
    from app.storage.imports import ImportProgress

    now_ms = time.time_ns() // 1_000_000  # the files are of the real exchange, whatever market runs here
    with database(settings) as connection:
        instrument = catalog.add(connection, Exchange.BINANCE.value, symbol, active=False)
    with cache(settings) as redis:
        publish(redis, keys.WATCHLIST, {})
    engine = make_engine(settings, process="import")
    rows = sum(file.rows for file in files)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.elapsed:.0f} s"))
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"importing {symbol}", total=rows)
            importer = KlineImporter(engine, bulk, holes, outbox, ImportProgress(engine), read_klines, now_ms)
            counts = importer.run(files, instrument.id, advance=lambda bars: progress.advance(task, bars))
            progress.update(task, description=f"imported {symbol}")
    finally:
        engine.dispose()
    _report(files, instrument, counts)


def _report(files: Sequence[KlineFile], instrument: Instrument, counts: KlineCounts) -> None:
    rejected = sum(file.rejected for file in files)
    if rejected:
        lines = [line for file in files for line in file.shown][:SHOWN]
        more = f"\n  … and {rejected - len(lines):,} more" if rejected > len(lines) else ""
        print(f"rejected {rejected:,}:", *lines, sep="\n  ", end=f"{more}\n", file=sys.stderr)
    files = [file for file in files if file.rows]
    kinds = ", ".join(dict.fromkeys(file.timeframe.value for file in files))
    early = f"  not over yet {counts.early:,}" if counts.early else ""
    bad = f"  rejected {rejected:,}" if rejected else ""
    print(f"{instrument.symbol}: {sum(file.rows for file in files):,} klines ({kinds}) in {len(files)} file(s)")
    print(
        f"read {sum(file.rows for file in files):,}  new {counts.changed:,}  already known {counts.known:,}{early}{bad}"
    )
