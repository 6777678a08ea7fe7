"""What `status` says of the sources: market hours, feeds, missing keys; and of how whole and verified the bars are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from app.domain.instruments import RULES, Exchange
from app.domain.timeframes import DAY_MS

if TYPE_CHECKING:
    import sqlalchemy as sa

    from app.cli.facts import Facts
    from app.config import Settings

HOLES_SHOWN = 20
FEED_NOTES = {
    "none": "nothing was heard of it yet",
    "closed": "waits for its market to open",
    "idle": "there is nothing to collect",
}


def ask_feeds(facts: Facts, beats: dict[str, dict[str, Any]], settings: Settings) -> None:
    """Fills in each source's feed; a refused or broken one is trouble, a missing key is worth a note."""
    from app.services.feed_states import feed_states, missing_keys

    missing = missing_keys(settings)
    for name, state in feed_states(beats, Exchange).items():
        feed = state["feed"]
        row: dict[str, Any] = {"exchange": name, "title": RULES[Exchange(name)].title, "feed": feed, "markets": {}}
        row |= {"delay_s": RULES[Exchange(name)].delay_s, "error": state["error"], "since": state["since"]}
        row["missing"] = missing.get(name)
        if name in missing and feed in {"none", "down"}:
            row["feed"] = "no_key"
            facts.notes.append(f"{row['title']} is not collected: set {missing[name]}")
        elif feed in {"refused", "down", "reconnecting"}:
            facts.troubles.append(
                f"{row['title']}: the feed is {feed}" + (f": {state['error']}" if state["error"] else "")
            )
        facts.sources.append(row)


def ask_hours(facts: Facts, connection: sa.Connection, settings: Settings, now_ms: int) -> None:
    """Fills in the hours of every calendar in use, with the date of the last session known."""
    from app.services.markets import Markets
    from app.storage import catalog, sessions

    connect: Callable[[], Any] = lambda: nullcontext(connection)  # noqa: E731
    markets = Markets(connect, sessions, now_ms=lambda: now_ms, extended=settings.extended_hours)
    sources = {row["exchange"]: row for row in facts.sources}
    used = {(item.exchange.value, item.calendar) for item in catalog.instruments(connection, active_only=True)}
    for exchange, calendar in sorted(used):
        state = markets.state(calendar)
        facts.sessions[calendar] = {
            **state.json(), "words": state.words(), "last": sessions.last(connection, calendar),
        }  # fmt: skip
        if exchange in sources:
            sources[exchange]["markets"][calendar] = state.words()
    for calendar, told in facts.sessions.items():
        if told["state"] == "unknown":
            facts.notes.append(f"the sessions of {calendar} are not known yet")


def ask_quality(facts: Facts, connection: sa.Connection, now_ms: int) -> None:
    """Fills in open holes, the last day's verification, and the backfills that are not over."""
    from app.storage import quality

    facts.holes = quality.holes(connection, open_only=True, limit=HOLES_SHOWN)
    for row in quality.verification(connection, now_ms - DAY_MS):
        share = round(row["verified"] / row["closed"], 4) if row["closed"] else None
        facts.verification.append({**row, "share": share})
    for row in quality.backfills(connection):
        done = (row["cursor"] - row["start"]) / max(row["end"] - row["start"], 1)
        facts.backfills.append({**row, "done": round(min(max(done, 0.0), 1.0), 4)})


def feed_note(row: dict[str, Any]) -> str:
    """What is to be said of a source's feed beside its state."""
    if row["feed"] == "no_key":
        return f"set {row['missing']}"
    notes = [row["error"] or FEED_NOTES.get(row["feed"], "")]
    if row["delay_s"]:
        notes.append(f"delayed {row['delay_s'] // 60} min")
    return ", ".join(note for note in notes if note)
