"""What is to be said of a source beside the state of its feed."""

from __future__ import annotations

from typing import Any

FEED_NOTES = {
    "none": "nothing was heard of it yet",
    "closed": "waits for its market to open",
    "idle": "there is nothing to collect",
}


def feed_note(row: dict[str, Any]) -> str:
    """What is to be said of a source's feed beside its state."""
    if row["feed"] == "no_key":
        return f"set {row['missing']}"
    notes = [row["error"] or FEED_NOTES.get(row["feed"], "")]
    if row["delay_s"]:
        notes.append(f"delayed {row['delay_s'] // 60} min")
    return ", ".join(note for note in notes if note)
