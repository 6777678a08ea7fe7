"""`restart`: replace the processes of the running platform one after the other, without missing a trade."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def restart(
    processes: Annotated[
        list[str] | None, typer.Argument(metavar="[PROCESS]...", help="Which, as status names them; all by default.")
    ] = None,
    trade_shards: Annotated[
        int | None, typer.Option("--trade-shards", min=1, max=64, help="From now on so many queues of trades.")
    ] = None,
    stream_shards: Annotated[
        int | None, typer.Option("--stream-shards", min=1, max=64, help="From now on so many streamers of Binance.")
    ] = None,
) -> None:
    """Restart the running platform, process by process: no trade is lost, and charts stay live.

    A new process serves before the old one is told to leave. After an update of the program or of [bold].env[/] (a new
    token, password or key, too) this brings it into use; run [bold]db upgrade[/] first. Ports, folders, the servers'
    URLs and the market stay until the next [bold]up[/], and so does what [bold]up[/]'s own environment sets. A number
    of shards given here holds until then: put it into [bold].env[/] too.
    """
    from app.config import load_settings
    from app.errors import BadInput, NotRunning, ServerFailed
    from app.local.restarts import ask
    from app.local.runfile import START_HINT, read_run

    settings = load_settings()
    run = read_run(settings.data_dir)
    if run is None or not run.alive:
        raise NotRunning(f"nothing runs on {settings.data_dir}: {START_HINT}")
    shards = {"trade_shards": trade_shards, "stream_shards": stream_shards}
    changed = {name: value for name, value in shards.items() if value is not None}
    if processes and changed:
        raise BadInput("another number of shards concerns every process: name none with it")
    code, text = _follow(ask(settings.data_dir / "run", processes or [], changed), lambda: run.alive)
    if code == 2:
        raise BadInput(text)
    if code:
        raise ServerFailed(text)


def _follow(answer: Path, alive: Callable[[], bool]) -> tuple[int, str]:
    """Prints what the platform says as it goes; the code and the last word."""
    import json
    import time

    seen = 0
    while True:
        lines = answer.read_text(encoding="utf-8").splitlines(keepends=True) if answer.exists() else []
        for line in lines[seen:]:
            if not line.endswith("\n"):
                break  # half written
            seen += 1
            told = json.loads(line)
            if told["code"] == 0:
                print(told["text"], flush=True)
            if told["done"]:
                answer.unlink(missing_ok=True)
                return int(told["code"]), str(told["text"])
        if not alive():
            return 1, "the platform ended while it was restarting"
        time.sleep(0.2)
