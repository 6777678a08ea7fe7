"""The state of each exchange's feed, from the heartbeats of its streamers and pollers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from app.config import Settings
from app.domain.instruments import Exchange

STALE_S = 10.0  # a streamer that has not beaten for so long is gone
REPLACED_S = 60.0  # a streamer that is silent for so long, and whose symbols another number of shards has, is forgotten
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


def replaced(processes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The streamers that are silent and will stay so: another number of shards of their exchange is heard in full.

    A silent shard of the number that should be there is an outage, however long it lasts.
    """
    heard: dict[tuple[str, int], set[int]] = defaultdict(set)
    silent = []
    for name, facts in processes.items():
        k, _, n = str(facts.get("shard", "")).partition("/")
        if not (name.startswith("streamer-") and k.isdecimal() and n.isdecimal()):
            continue
        if facts["age_s"] <= STALE_S:
            heard[_exchange(name, facts), int(n)].add(int(k))
        elif facts["age_s"] > REPLACED_S:
            silent.append((name, _exchange(name, facts), int(n)))
    whole = {key for key, shards in heard.items() if len(shards) == key[1]}
    return [name for name, exchange, n in silent if any(at == exchange and m != n for at, m in whole)]


def _exchange(name: str, facts: Mapping[str, Any]) -> str:
    return str(facts.get("exchange", name.partition("-")[2].split("-")[0]))


def _serves(name: str, facts: Mapping[str, Any], exchange: str) -> bool:
    return name.partition("-")[0] in {"streamer", "poller"} and _exchange(name, facts) == exchange


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
