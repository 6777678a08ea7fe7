"""`verify`: stored bars against the exchange's own, any stretch, on demand."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.domain.verification import Difference

MOST_ROWS = 200


def verify(
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="BTC/USDT (or BTC-USDT), AAPL, THYAO.IS")],
    start: Annotated[str, typer.Option("--start", help="First moment, UTC: 2026-11-01 or 2026-11-01T09:30.")],
    end: Annotated[str, typer.Option("--end", help="Last moment, exclusive; now where it is left out.")] = "",
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="binance, alpaca or yahoo.")] = "",
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d")] = "1m",
    repair: Annotated[bool, typer.Option("--repair", help="Put the exchange's values in place (1m only).")] = False,
) -> None:
    """Compare stored bars with the exchange's own and list every difference.

    Exit code 0 where all agree (or do so after --repair), 1 where a bar differs.

    Also 1 where nothing was compared though the market was open.

    Example: [bold]python -m app verify --exchange binance --symbol BTC/USDT --start 2026-11-01 --end 2026-11-02[/]
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from app.bootstrap import platform
    from app.cli.backfilling import parse_range
    from app.cli.platform import attached_settings, database, exchange_now_us
    from app.domain.timeframes import Timeframe
    from app.errors import BadInput, BadRange
    from app.storage import catalog, retention

    settings = attached_settings()
    parts = platform(settings, process="cli")
    tf, lo_ms, hi_ms = parse_range(start, end, timeframe, now_ms=exchange_now_us(settings) // 1000)
    if repair and tf is not Timeframe.M1:
        raise BadInput(f"--repair works on 1m bars: {tf.value} bars follow from them")
    with database(settings) as connection:
        instrument = catalog.find(connection, symbol, exchange or None)
        kept_ms = retention.cutoffs(connection).get(tf, lo_ms)
        expected = bool(parts.expected.windows(connection, instrument, max(lo_ms, kept_ms), hi_ms))
    if lo_ms < kept_ms:
        day = f"{datetime.fromtimestamp(kept_ms / 1000, UTC):%Y-%m-%d}"
        if hi_ms <= kept_ms:
            raise BadRange(f"{tf.value} bars before {day} are not kept: there is nothing to compare")
        print(f"{tf.value} bars before {day} are not kept: compared from there on", file=sys.stderr)
        lo_ms = kept_ms
    found: list[Difference] = []
    compared = unfinished = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{instrument.key} {tf.value}", total=hi_ms - lo_ms)
        for page in parts.audit.pages(instrument, tf, lo_ms, hi_ms, repair=repair):
            compared, unfinished = compared + page.compared, unfinished + page.open
            found += page.differences
            progress.update(task, completed=page.end_ms - lo_ms)
    _table(Console(), found)
    if not compared:
        said, code = nothing(f"{tf.value} bars of {instrument.key}", unfinished=unfinished, expected=expected)
        print(said)
        raise typer.Exit(code)
    said = f"{compared:,} bars compared, {compared - len(found):,} equal, {len(found):,} different"
    print(said + (f", {unfinished:,} still open" if unfinished else "") + (", repaired" if repair and found else ""))
    raise typer.Exit(1 if found and not repair else 0)


def nothing(bars: str, *, unfinished: int, expected: bool) -> tuple[str, int]:
    """(the last line, the exit code) where nothing was compared: no proof, unless there was nothing to expect."""
    if unfinished:
        return f"nothing was compared: the {unfinished:,} {bars} there are still open", 1
    if not expected:
        return f"nothing was compared: the market was closed, and neither side has {bars} there", 0
    return f"nothing was compared: neither the platform nor the exchange has {bars} there; are the dates right?", 1


def _table(console: object, found: list[Difference]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        return
    assert isinstance(console, Console)
    table = Table("time (UTC)", "field", "ours", "exchange", box=None, pad_edge=False)
    rows = [
        (f"{datetime.fromtimestamp(item.time_ms / 1000, UTC):%Y-%m-%d %H:%M}", *row)
        for item in found
        for row in _rows(item)
    ]
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > MOST_ROWS:
        print(f"… and {len(rows) - MOST_ROWS:,} more rows")


def _rows(item: Difference) -> list[tuple[str, str, str]]:
    if item.ours is None or item.theirs is None:
        one = item.ours or item.theirs or {}
        told = f"close {one.get('close', '?')}, volume {one.get('volume', '?')}"
        return [("bar", told if item.ours else "none", told if item.theirs else "none")]
    return [(name, item.ours[name], item.theirs[name]) for name in item.fields]
