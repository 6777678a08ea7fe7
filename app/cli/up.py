"""`up`: start the platform and look after it."""

from __future__ import annotations

from typing import Annotated

import typer


def up(
    no_streamers: Annotated[bool, typer.Option("--no-streamers", help="Start everything but the feeds.")] = False,
) -> None:
    """Start the whole platform and look after it until Ctrl-C.

    It runs PostgreSQL, Redis, the simulated market, workers, beat, streamers, web and Flower.

    With [bold]DATABASE_URL[/] and [bold]REDIS_URL[/] set nothing is embedded. Data is in [bold]DATA_DIR[/] (.data).
    """
    from app.config import load_settings
    from app.local.run import run_up

    raise typer.Exit(run_up(load_settings(), streamers=not no_streamers))
