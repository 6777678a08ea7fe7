"""`db`: the database's schema."""

from __future__ import annotations

import typer

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """The database's schema."""


@app.command("upgrade")
def upgrade() -> None:
    """Bring the schema up to date; does nothing where it is."""
    import sqlalchemy as sa

    from app.cli.platform import attached_settings
    from app.config import load_settings
    from app.errors import Unavailable
    from app.storage import migrate

    settings = load_settings()
    url = settings.database_url or attached_settings().database_url
    try:
        migrate.upgrade(url)
    except sa.exc.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {str(error.orig).strip()}") from error
    print("the schema is up to date")
