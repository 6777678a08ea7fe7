"""The state of each exchange's feed, from the heartbeats of its streamers and pollers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.config import Settings
from app.domain.instruments import Exchange

STALE_S = 10.0  # a streamer that has not beaten for so long is gone
POLLER_STALE_S = 960.0  # three polls of five minutes, and a minute
_SEVERITY = ("no_key", "idle", "closed", "connected", "reconnecting", "down", "refused")
UNHEARD = frozenset({"none", "down", "no_key"})  # as it has to be where a key is missing: no trouble
NONE: dict[str, Any] = {"feed": "none", "since": None, "at": None, "error": None, "age_s": 0.0}
States = dict[str, dict[str, Any]]


def feed_states(processes: Mapping[str, Mapping[str, Any]], exchanges: Iterable[str]) -> States:
    """{"feed", "since", "at", "error", "age_s"} of each exchange; of several shards the worst one speaks."""
    states: States = {}
    for exchange in map(str, exchanges):
        shards = [_state(name, facts) for name, facts in processes.items() if _serves(name, facts, exchange)]
        states[exchange] = max(shards, key=lambda state: _SEVERITY.index(state["feed"])) if shards else dict(NONE)
    return states


def _serves(name: str, facts: Mapping[str, Any], exchange: str) -> bool:
    kind, _, rest = name.partition("-")
    return kind in {"streamer", "poller"} and facts.get("exchange", rest.split("-")[0]) == exchange


def _state(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    feed = facts.get("feed")
    state = {
        "feed": feed if feed in _SEVERITY else "down",
        "since": facts.get("since"),
        "at": facts.get("at"),
        "error": facts.get("error") or None,
        "age_s": facts["age_s"],
    }
    if facts["age_s"] > patience_s(name, state["feed"]):
        state.update(feed="down", since=facts.get("beat_ms"))
    return state


def patience_s(name: str, feed: str | None) -> float:
    """How old the last word of a process may be before it is taken for gone.

    A poller speaks when it polls, so after "closed" it is silent until the market opens; a streamer always speaks.
    """
    if not name.startswith("poller"):
        return STALE_S
    return float("inf") if feed == "closed" else POLLER_STALE_S


def missing_keys(settings: Settings) -> dict[str, str]:
    """Exchange → what has to be set before anything of it can be collected."""
    return {} if settings.alpaca_keys else {Exchange.ALPACA.value: "ALPACA_API_KEY and ALPACA_SECRET_KEY"}
