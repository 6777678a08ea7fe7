"""How backfills are shown: live bars until they are over, and a table."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from app.cli.platform import attached_settings, database
from app.config import Settings
from app.domain.history import Backfill, Pace, pace
from app.errors import SourceError
from app.services.backfilling import moment, note
from app.storage import backfills, catalog

POLL_S = 0.5
SHOWN = 20


def follow(settings: Settings, wanted: Mapping[int, str]) -> None:
    """Shows a bar for each backfill (id → symbol) and one for all until they are over.

    Raises SourceError with the reason where one did not end well. Ctrl-C leaves the work to the platform.
    """
    try:
        with _heeded() as stopped:
            items = _watch(settings, wanted, stopped)
    except KeyboardInterrupt:
        names = ", ".join(map(str, wanted))
        Console(stderr=True).print(
            f"the platform goes on with backfill {names}: `backfill --list` shows how far, `--cancel ID` ends one",
            highlight=False,
        )
        raise SystemExit(130) from None
    for item in items:
        print(outcome(item, wanted[item.id]))
    if bad := [item for item in items if item.state != "done"]:
        one = bad[0]
        raise SourceError(
            f"{len(bad)} of {len(items)} backfills did not end well"
            if len(items) > 1
            else f"backfill {one.id} {one.state}: {one.error or 'no reason given'}"
        )


def outcome(item: Backfill, symbol: str) -> str:
    """What became of a backfill, in one line."""
    began = "" if item.empty_to_ms is None else f"; there is nothing before {moment(item.empty_to_ms)}"
    if item.state == "done":
        return f"backfill {item.id} is done: {item.bars:,} bars of {symbol}{began}"
    return f"backfill {item.id} ({symbol}) {item.state} after {item.bars:,} bars: {item.error or 'no reason given'}"


def show() -> None:
    """Prints those at work or waiting, then the latest of the others."""
    settings = attached_settings()
    with database(settings) as connection:
        items = backfills.recent(connection, limit=SHOWN)
        symbols = {item.id: item.key for item in catalog.instruments(connection)}
    if not items:
        print("no backfill was asked for yet")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("id", "symbol", "from (UTC)", "to", "state", "done", "bars", "bars/s", "left", "note"):
        table.add_column(name, justify="right" if name in {"id", "done", "bars", "bars/s", "left"} else "left")
    for item in items:
        span = (moment(item.lo_ms), moment(item.hi_ms))
        name = f"{symbols.get(item.instrument_id, '?')} {item.timeframe.value}"
        numbers = (f"{item.share:.0%}", f"{item.bars:,}", _rate(item.pace), "" if item.over else _left(item.pace))
        said = note(item)
        table.add_row(str(item.id), name, *span, item.state, *numbers, "" if said == item.state else said)
    console = Console()
    console.width = max(console.width, 160) if not console.is_terminal else console.width
    console.print(table)


@contextmanager
def _heeded() -> Iterator[Event]:
    """Ctrl-C raises at once, as ever, and is noted: one raised while something is taken down is lost by Python."""
    stopped, before = Event(), signal.getsignal(signal.SIGINT)

    def interrupt(*_: Any) -> None:
        stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(settings: Settings, wanted: Mapping[int, str], stopped: Event) -> list[Backfill]:
    """The backfills once they are all over."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn(),
        TextColumn("{task.fields[bars]:>11,} bars {task.fields[rate]:>8}/s  {task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        rows: dict[int, TaskID] = {}
        for backfill_id, symbol in wanted.items():
            rows[backfill_id] = progress.add_task(symbol, total=1.0, bars=0, rate="–", note="")
        total = progress.add_task("all", total=1.0, bars=0, rate="–", note="") if len(wanted) > 1 else None
        while True:
            items = _read(settings, wanted)
            for item in items:
                _update(progress, rows[item.id], item.pace, note(item) or _left(item.pace))
            if total is not None:
                _update(progress, total, together := pace(items), _left(together))
            if all(item.over for item in items):
                return items
            if stopped.wait(POLL_S):
                raise KeyboardInterrupt


def _update(progress: Progress, row: TaskID, at: Pace, note: str) -> None:
    progress.update(row, completed=at.share, bars=at.bars, rate=_rate(at), note=note)


def _read(settings: Settings, wanted: Mapping[int, str]) -> list[Backfill]:
    with database(settings) as connection:
        return backfills.recent(connection, ids=list(wanted))


def _rate(at: Pace) -> str:
    return "–" if at.rate is None else f"{at.rate:,.0f}"


def _left(at: Pace) -> str:
    return f"{timedelta(seconds=round(at.left_s))} left" if at.left_s and at.left_s >= 0.5 else ""
