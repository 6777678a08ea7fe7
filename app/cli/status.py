"""`status`: sources, processes, queues, the last trade of each symbol, what is missing and how much is verified."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from app.config import Settings
    from app.local.runfile import Run
    from app.services.status import Facts


EXIT_CODES = {"ok": 0, "degraded": 1, "down": 2}


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Show how the platform is: sources, processes, queues, last trades, open holes, verification, backfills.

    Exit code 0 when all is well, 1 when something is degraded, 2 when nothing runs or the database cannot be reached.
    """
    import sys

    from rich.console import Console

    from app.config import load_settings
    from app.errors import NotRunning
    from app.local.runfile import attach, read_run

    settings = load_settings()
    try:
        settings = attach(settings)
    except NotRunning as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    facts, level = _gather(settings)
    if as_json:
        _print_json(facts, level)
    else:
        _show(Console(), facts, level, read_run(settings.data_dir))
    raise typer.Exit(EXIT_CODES[level])


def _gather(settings: Settings) -> tuple[Facts, str]:
    """What is known, and `ok`, `degraded` or `down` as GET /api/status says it."""
    from app.bootstrap import platform
    from app.cache.signals import Signals, broker_of
    from app.cli.platform import cache, database, exchange_now_us
    from app.errors import Unavailable
    from app.services.status import Facts, Trouble

    facts, service = Facts(), platform(settings, process="cli").status
    try:
        with cache(settings) as redis:
            broker = broker_of(redis, redis_url=settings.redis_url, broker_url=settings.broker_url)
            service.hear(facts, Signals(redis, broker))
    except Unavailable as error:
        facts.troubles.append(Trouble(str(error), ""))
    try:
        now_ms = exchange_now_us(settings) // 1000
    except Unavailable as error:
        facts.troubles.append(Trouble(str(error), "its process may be starting: see the processes"))
        now_ms = time.time_ns() // 1_000_000
    try:
        with database(settings) as connection:
            service.look(facts, connection, now_ms)
    except Unavailable as error:
        facts.troubles.insert(0, Trouble(str(error), ""))
        return facts, "down"
    return facts, facts.level


def _print_json(facts: Facts, level: str) -> None:
    import json
    from dataclasses import asdict

    troubles = [trouble.what for trouble in facts.troubles]
    told = {**asdict(facts), "processes": facts.process_rows, "troubles": troubles}
    print(json.dumps({"status": level, **told}, indent=2))


def _show(console: Console, facts: Facts, level: str, run: Run | None) -> None:
    if run is not None and run.alive:
        where = f"[bold]{run.web_url}[/]  market {run.market}, pid {run.pid}, logs {run.log_dir}"
        console.print(where, highlight=False)
    _show_sources(console, facts)
    _table(console, "Processes", ("process", "state", "pid", "restarts", "heard", "says"), [
        (row["name"], _coloured(row["state"]), _or_dash(row["pid"]), _or_dash(row["restarts"]), _heard(row),
         _rest(row["facts"]))
        for row in facts.process_rows
    ])  # fmt: skip
    _table(console, "Queues", ("queue", "waiting"), [
        (name, "–" if waiting is None else waiting) for name, waiting in facts.queues.items()
    ])  # fmt: skip
    now_ms = time.time_ns() // 1_000_000
    _table(console, "Last trades", ("exchange", "symbol", "price", "time (UTC)", "age"), [
        (item["exchange"], item["symbol"], *_trade(item, now_ms)) for item in facts.last_trades if item["time_ms"]
    ])  # fmt: skip
    if silent := [item["symbol"] for item in facts.last_trades if not item["time_ms"]]:
        console.print(f"No trade yet: {', '.join(silent)}", "", highlight=False, sep="\n")
    _table(console, "Counted", ("reason", "times"), [(key, f"{value:,}") for key, value in facts.counters.items()])
    _show_quality(console, facts, now_ms)
    for note in facts.notes:
        console.print(f"[dim]–[/] {note}", highlight=False)
    for trouble in facts.troubles:
        console.print(f"[yellow]![/] {trouble.what}", highlight=False)
    colour = {"ok": "green", "degraded": "yellow", "down": "red"}[level]
    console.print(f"[{colour}]{level}[/]")


def _show_sources(console: Console, facts: Facts) -> None:
    from app.cli.sources import feed_note

    _table(console, "Sources", ("source", "market", "feed", ""), [
        (row["title"], _hours(row["markets"]), _coloured(row["feed"].replace("_", " ")), feed_note(row))
        for row in facts.sources
    ])  # fmt: skip


def _hours(markets: dict[str, str]) -> str:
    if len(markets) == 1:
        return next(iter(markets.values()))
    return "\n".join(f"{calendar}: {words}" for calendar, words in markets.items())


def _show_quality(console: Console, facts: Facts, now_ms: int) -> None:
    title = f"Holes that wait for repair: {facts.open_holes:,}"
    if facts.open_holes > len(facts.holes):
        title += f", the newest {len(facts.holes)}"
    columns = ("exchange", "symbol", "from (UTC)", "to", "cause", "age", "attempts", "last error")
    _table(console, title, columns, [
        (row["exchange"], row["symbol"], _when(row["start"]), _when(row["end"]), row["cause"],
         _age(now_ms - row["found"]), row["attempts"], (row["error"] or "–")[:60])
        for row in facts.holes
    ])  # fmt: skip
    counted = ("exchange", "closed bars", "verified", "share", "differences")
    _table(console, "Verification, 1m bars of the last 24 hours", counted, [
        (row["exchange"], f"{row['closed']:,}", f"{row['verified']:,}", _share(row["share"]), f"{row['differences']:,}")
        for row in facts.verification
    ])  # fmt: skip
    _table(console, "Backfills", ("exchange", "symbol", "timeframe", "from (UTC)", "to", "state", "done", "bars"), [
        (row["exchange"], row["symbol"], row["timeframe"], _when(row["start"]), _when(row["end"]), row["state"],
         _share(row["done"]), f"{row['bars']:,}")
        for row in facts.backfills
    ])  # fmt: skip


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _when(time_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table, "")


def _coloured(state: str) -> str:
    calm = {"closed": "dim", "idle": "dim", "none": "dim", "no key": "dim"}
    good = dict.fromkeys(("ready", "heard", "connected"), "green")
    bad = dict.fromkeys(("silent", "given up", "refused"), "red")
    colour = {**good, **bad, **calm}.get(state, "yellow")
    return f"[{colour}]{state}[/]"


def _rest(facts: dict[str, Any]) -> str:
    shown = {"exchange", "since", "at"}
    return " ".join(f"{key}={value}" for key, value in facts.items() if key not in shown)


def _heard(row: dict[str, Any]) -> str:
    return "–" if row["heard_s"] is None else f"{row['heard_s']:.0f} s ago"


def _or_dash(value: int | None) -> str:
    return "–" if value is None else str(value)


def _trade(item: dict[str, Any], now_ms: int) -> tuple[str, str, str]:
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(item["time_ms"] / 1000, UTC)
    return f"{item['price']:,.8g}", f"{when:%Y-%m-%d %H:%M:%S}", _age(now_ms - item["time_ms"])


def _age(ms: int) -> str:
    seconds = ms / 1000
    if seconds < 0:
        return "–"  # a market whose clock is ahead of ours
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
