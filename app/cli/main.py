"""The commands by name, and how an error ends one: a single line on stderr and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from app.cli import backfill, db, health, importing, instruments, restart, status, token, trace, up, verify
from app.errors import BadInput, PlatformError

app = typer.Typer(
    name="python -m app",
    help=(
        "A self-hosted market-data platform: real trades become live, exact charts.\n\n"
        "Start everything with [bold]up[/], then open the address it shows; the other commands find it by themselves."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("restart")(restart.restart)
app.command("status")(status.status)
app.add_typer(instruments.app, name="instruments")
app.command("import")(importing.import_command)
app.command("backfill")(backfill.backfill)
app.command("verify")(verify.verify)
app.command("token")(token.token)
app.command("trace")(trace.trace)
app.add_typer(db.app, name="db")


@app.command("health")
def _health(
    process: Annotated[str, typer.Argument(help="As `status` names it; by default PROCESS_NAME.")] = "",
    url: Annotated[str, typer.Option(help="Ask this address instead of listening for the heartbeat.")] = "",
) -> None:
    """Say whether a process lives: exit code 0 while its heartbeat is fresh (or its URL answers), 1 with the reason."""
    raise typer.Exit(health.check(process, url))


def main() -> None:
    """Runs the command line; 2 for input that cannot be used, 1 for what failed otherwise."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        raise SystemExit(_refused(error)) from None
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BadInput) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _refused(error: TyperException) -> int:
    """Says in one line what is wrong with the arguments; a command without any has shown its help already."""
    message = error.format_message().strip().rstrip(".")
    if message:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "python -m app"
        print(f"error: {message[:1].lower()}{message[1:]} (see `{command} --help`)", file=sys.stderr)
    return error.exit_code
