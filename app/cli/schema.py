"""What `db upgrade`, `db downgrade` and `db timescale` do."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import sqlalchemy as sa
import typer

from app.cli.database import connected, running
from app.cli.inventory import size
from app.config import Settings
from app.domain.keeping import Kept
from app.domain.timeframes import Timeframe
from app.storage import inventory, migrate, retention, timescale


def upgrade(settings: Settings, revision: str) -> None:
    """Migrates, has the table `retention` say what the settings do, and prints what came of it.

    The retention of a running platform stays what its own settings said when it started: they may stand in an
    environment that this command does not have, and bars that are deleted by mistake do not come back.
    """
    notes = migrate.upgrade(settings.database_url, revision)
    retain = _differ if running(settings) else _retain
    with connected(settings) as connection:
        at = migrate.current(connection)
        if at == migrate.newest():
            notes += retain(connection, settings)
    for note in notes:
        print(f"! {note}")
    print("the schema is up to date" if at == migrate.newest() else f"the schema is at {at or migrate.BASE}")


def downgrade(settings: Settings, revision: str, *, ask: bool) -> None:
    """Says what goes, asks, and takes the schema back."""
    with connected(settings) as connection:
        steps = migrate.back(migrate.current(connection), revision)
        held = inventory.read(connection)
    for step in steps:
        print(f"{step.revision} is taken back; with it go: {step.removes}")
    if revision == migrate.BASE:
        bars = sum(table.rows or 0 for table in held.tables if table.name.startswith("candles_"))
        print(f"database {held.database} loses all it holds of the platform: some {bars:,} bars, {size(held.bytes)}")
    if ask and not _sure():
        print("nothing was changed")
        raise typer.Exit(1)
    began = time.monotonic()
    migrate.downgrade(settings.database_url, revision)
    print(f"the schema is at {revision} ({time.monotonic() - began:.1f} s)")


def convert(settings: Settings) -> None:
    """Makes the tables hypertables and says how long it took."""
    with connected(settings) as connection:
        if not migrate.convertible(connection):
            print(f"already: the tables are hypertables of TimescaleDB {timescale.version(connection)}")
            return
        bars = sum(table.bytes for table in inventory.read(connection).tables if table.name in timescale.TABLES)
    print(
        f"converting {size(bars)}: the server needs as much free disk again, and as much for its log, until it is done"
    )
    began = time.monotonic()
    migrate.convert(settings.database_url)
    print(f"done in {time.monotonic() - began:.1f} s: the tables are hypertables, every row is kept")
    print("old chunks are compressed by TimescaleDB's jobs within a day; `db status` shows them")


def _retain(connection: sa.Connection, settings: Settings) -> list[str]:
    """Writes the retention; says what will be deleted that was kept until now."""
    before = retention.cutoffs(connection)
    retention.put(connection, settings.keep_days)
    notes = []
    for tf, cutoff_ms in retention.cutoffs(connection).items():
        if cutoff_ms > before.get(tf, -1) and retention.oldest(connection, tf, cutoff_ms):
            day = f"{datetime.fromtimestamp(cutoff_ms / 1000, UTC):%Y-%m-%d}"
            notes.append(f"{tf.value} bars before {day} are deleted from now on; {_setting(tf)}=0 keeps them")
    return notes


def _differ(connection: sa.Connection, settings: Settings) -> list[str]:
    """Says what the settings have otherwise than the table, which stays."""
    held = retention.settings(connection)
    asked = {Timeframe(name): days for name, days in settings.keep_days.items()}
    others = [_setting(tf) for tf, days in asked.items() if held.get(tf, Kept(None, None)).days != days]
    if not others:
        return []
    names = ", ".join(others)
    return [f"retention stays as the running `up` has set it, though {names} differ here: start it anew to change it"]


def _setting(tf: Timeframe) -> str:
    return f"RETENTION_DAYS_{tf.value.upper()}"


def _sure() -> bool:
    try:
        return typer.confirm("Go on?")
    except typer.Abort:  # Ctrl-C, or nobody there to answer
        print()
        return False
