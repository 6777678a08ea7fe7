"""`trace`: what is known of one batch of trades, by the id that logs, tasks and updates have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.config import Settings
    from app.domain.feeds import Placed


def trace(
    batch: Annotated[str, typer.Argument(help="Its id, such as 65f1c0d2a4b1e-42.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Show what is known of a batch of trades: who sent it and when, whether it is committed, and of what it was.

    [bold]passed[/]: its feed's clock is past it, so it is committed, unless a hole says "batch lost". Exit code 0 when
    it is committed or passed, 1 when it is not, or nothing is known of it.
    """
    from app.cli.platform import attached_settings
    from app.domain.summaries import batch_id, batch_place

    run, n = batch_place(batch)
    facts = _gather(attached_settings(), run, n, name=batch_id(run, n))
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        _show(facts)
    raise typer.Exit(0 if facts["state"] in ("committed", "passed") else 1)


def _gather(settings: Settings, run: int, n: int, *, name: str) -> dict[str, Any]:
    from app.cache.trail import find_in_trail
    from app.cli.platform import cache, database
    from app.errors import Unavailable
    from app.storage import catalog, feeds

    facts: dict[str, Any] = {"batch": name, "run": run, "n": n, "state": "unknown", "notes": []}
    symbols: dict[int, str] = {}
    try:
        with database(settings) as connection:
            symbols = {item.id: item.symbol for item in catalog.instruments(connection)}
            placed = feeds.placed(connection, run, n)
        facts |= _of_database(placed, n)
    except Unavailable as error:
        facts["notes"].append(str(error))
    try:
        with cache(settings) as redis:
            trail = find_in_trail(redis, name)
    except Unavailable as error:
        facts["notes"].append(str(error))
    else:
        facts |= _of_trail(trail, symbols)
        if not trail:
            facts["notes"].append("the trail in Redis has the last 20,000 batches with trades: this is none of them")
    return facts


def _of_database(placed: Placed | None, n: int) -> dict[str, Any]:
    if placed is None:
        return {"run_known": False}
    who = f"streamer-{placed.exchange}" if placed.kind == "live" else "import"
    facts: dict[str, Any] = {
        "run_known": True, "sent_by": who, "shard": placed.shard, "exchange": placed.exchange, "kind": placed.kind,
        "run_began": _time(placed.since_s), "run_ended": placed.ended, "run_clock": _time(placed.clock_s),
        "state": _state(placed, n),
    }  # fmt: skip
    if placed.committed_s is not None:
        facts |= {"committed": _time(placed.committed_s), "upto": _time(placed.upto_s)}
        facts |= {"accepted": placed.accepted, "known": placed.known, "refused": placed.refused}
    return facts


def _state(placed: Placed, n: int) -> str:
    """A batch that never came is passed over in the end; the trail tells, while it goes back so far."""
    if placed.committed_s is not None:
        return "committed"
    return "passed" if n <= placed.done else "not committed"


def _of_trail(trail: list[tuple[int, dict[str, Any]]], symbols: dict[int, str]) -> dict[str, Any]:
    if not trail:
        return {}
    committed_ms, first = trail[-1]
    return {
        "state": "committed", "sent": _time(first["sent_us"] / 1e6), "committed": _time(committed_ms / 1000),
        "deliveries": len(trail), "trades": first["trades"], "accepted": first["accepted"],
        "known": first["known"], "refused": first["refused"], "last_trade": _time(first["last_us"] / 1e6),
        "symbols": [symbols.get(i, f"instrument {i}") for i in first["instruments"]],
    }  # fmt: skip


def _time(seconds: float | None) -> str | None:
    from datetime import UTC, datetime

    if not seconds:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(facts: dict[str, Any]) -> None:
    notes = facts.pop("notes")
    for name, value in facts.items():
        if value is not None:
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', ' '):<12} {shown}")
    for note in notes:
        print(f"– {note}")
