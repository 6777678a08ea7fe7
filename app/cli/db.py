"""`db`: the database's schema, what it holds, and TimescaleDB."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The database: its schema, what it holds, TimescaleDB.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """The database: its schema, what it holds, TimescaleDB.

    It is the one of [bold]DATABASE_URL[/], or of the platform of [bold]DATA_DIR[/], which need not run.
    """


@app.command("upgrade")
def upgrade(
    revision: Annotated[
        str, typer.Argument(metavar="[REVISION]", help="Where to; the newest one by default.")
    ] = "head",
) -> None:
    """Bring the schema up to date, and the retention to what the settings say; does nothing where they are.

    `up` does so at every start. While it runs the retention stays as it was started with.
    """
    from app.cli.database import served
    from app.cli.schema import upgrade as bring

    with served() as settings:
        bring(settings, revision)


@app.command("downgrade")
def downgrade(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Where to: 0003; base removes everything.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take the schema back to an older revision: says what that removes, and asks.

    The platform must not run meanwhile.
    """
    from app.cli.database import alone
    from app.cli.schema import downgrade as take_back

    with alone("nothing of it works on an older schema") as settings:
        take_back(settings, revision, ask=not yes)


@app.command("status")
def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False) -> None:
    """Show server, revision and retention, each table's rows, size and chunks, and TimescaleDB's jobs."""
    from app.cli.database import connected, served
    from app.cli.inventory import show
    from app.storage import inventory

    with served() as settings, connected(settings) as connection:
        found = inventory.read(connection)
    show(found, as_json=as_json)


@app.command("timescale")
def timescale() -> None:
    """Make the tables hypertables, on a server that has gained TimescaleDB; all data is kept.

    The platform must not run meanwhile: the tables are locked until it is done.
    """
    from app.cli.database import alone
    from app.cli.schema import convert

    with alone("the tables are locked meanwhile") as settings:
        convert(settings)
