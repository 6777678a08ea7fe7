"""The state of each exchange's feed as clients are told it, from the streamers' heartbeats.

connected, reconnecting and down are a streamer's; none says that no streamer of the exchange was ever heard of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STALE_S = 10.0  # a streamer that has not beaten for so long is gone
_SEVERITY = ("connected", "reconnecting", "down")
NONE: dict[str, Any] = {"feed": "none", "since": None, "at": None}


def feed_states(processes: Mapping[str, Mapping[str, Any]], exchanges: Iterable[str]) -> dict[str, dict[str, Any]]:
    """{"feed", "since", "at"} of each exchange; where several shards serve one, the worst of them speaks."""
    states = {}
    for exchange in exchanges:
        shards = [_state(facts) for name, facts in processes.items() if _serves(name, facts, exchange)]
        states[exchange] = max(shards, key=lambda state: _SEVERITY.index(state["feed"])) if shards else dict(NONE)
    return states


def _serves(name: str, facts: Mapping[str, Any], exchange: str) -> bool:
    return name.startswith("streamer") and facts.get("exchange", name.split("-")[1:2]) in (exchange, [exchange])


def _state(facts: Mapping[str, Any]) -> dict[str, Any]:
    feed = facts.get("feed")
    state = {"feed": feed if feed in _SEVERITY else "down", "since": facts.get("since"), "at": facts.get("at")}
    if facts["age_s"] > STALE_S:
        state.update(feed="down", since=facts.get("beat_ms"))
    return state
