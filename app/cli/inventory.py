"""How `db status` shows what a database holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table as Grid

from app.storage.inventory import Inventory, Job, Table

MOMENT, DAY = "%Y-%m-%d %H:%M", "%Y-%m-%d"
NUMBERS = {"rows", "size", "chunks", "compressed", "ratio", "runs", "failures"}


def show(found: Inventory, *, as_json: bool) -> None:
    """Prints it: tables for people, one object for scripts."""
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    console = Console()
    console.width = max(console.width, 120) if not console.is_terminal else console.width
    kind = f"TimescaleDB {found.timescaledb}" if found.obstacle is None else "plain tables"
    state = "the newest" if found.revision == found.newest else f"the newest is {found.newest}: run `db upgrade`"
    lines = (
        f"PostgreSQL {found.server}, {kind}; database {found.database}, {size(found.bytes)}",
        f"schema {found.revision or 'none'} ({state})",
    )
    console.print(*lines, "", sep="\n", highlight=False, soft_wrap=True)
    _print(console, [_table(table) for table in found.tables])
    _print(console, [_job(job) for job in found.jobs])
    if found.obstacle is not None:
        console.print(f"[dim]–[/] no hypertables: {found.obstacle}", highlight=False, soft_wrap=True)
    for job in found.jobs:
        if job.last_status == "Failed" or not job.scheduled:
            reason = "has failed: the server's log says why" if job.scheduled else "is switched off"
            console.print(f"[yellow]![/] job {job.id} ({job.name}) {reason}", highlight=False)


def size(count: float) -> str:
    """Bytes, as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in {"B", "kB"} else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def _table(table: Table) -> dict[str, str]:
    return {
        "table": table.name,
        "rows": "–" if table.rows is None else f"{table.rows:,}",
        "size": size(table.bytes),
        "chunks": "" if table.chunks is None else f"{table.chunks:,}",
        "compressed": "" if table.compressed is None else f"{table.compressed:,}",
        "ratio": "" if table.ratio is None else f"{table.ratio:.1f}",
        "kept": _kept(table),
    }


def _kept(table: Table) -> str:
    if not table.name.startswith(("candles_", "indicators_")):
        return ""
    if table.keep_days is None or table.kept_since_ms is None:
        return "for ever"
    asked = table.kept_from_ms is not None and table.kept_from_ms <= table.kept_since_ms
    return f"from {_when(table.kept_since_ms, DAY)} on ({'--keep' if asked else f'{table.keep_days} days'})"


def _job(job: Job) -> dict[str, str]:
    return {
        "job": str(job.id),
        "does": job.name,
        "table": job.table or "",
        "every": _length(job.every_s),
        "last run (UTC)": _when(job.last_run_ms),
        "result": job.last_status or "–",
        "next run": _when(job.next_run_ms) if job.scheduled else "off",
        "runs": f"{job.runs:,}",
        "failures": f"{job.failures:,}",
    }


def _print(console: Console, rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    grid = Grid(box=None, pad_edge=False)
    for name in rows[0]:
        if any(row[name] for row in rows):
            grid.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(row[name] for name in rows[0] if any(other[name] for other in rows)))
    console.print(grid, "")


def _when(time_ms: int | None, form: str = MOMENT) -> str:
    return "–" if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):{form}}"


def _length(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
