"""The state of each exchange's feed as clients are told it, from the streamers' heartbeats.

connected, reconnecting and down are a streamer's; none says that no streamer of the exchange was ever heard of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from redis import Redis, RedisError

from app.cache import health
from app.domain.instruments import Exchange

STALE_S = 10.0  # a streamer that has not beaten for so long is gone
_SEVERITY = ("connected", "reconnecting", "down")
NONE: dict[str, Any] = {"feed": "none", "since": None, "at": None}


class Feeds:
    """The feeds' states as last read from Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.states = feed_states({}, Exchange)

    def refresh(self) -> set[str]:
        """Read the heartbeats; returns the exchanges whose feed changed."""
        before, self.states = self.states, self._read()
        return {name for name in before if before[name]["feed"] != self.states[name]["feed"]}

    def _read(self) -> dict[str, dict[str, Any]]:
        now_ms = time.time_ns() // 1_000_000
        try:
            states = feed_states(health.read(self._redis), Exchange)
        except (RedisError, OSError, ValueError):
            return {name: _lost(state, "reconnecting", now_ms) for name, state in self.states.items()}
        # Redis may have lost the heartbeat of a streamer that is gone: what was there once is down, not unheard of.
        return {
            name: _lost(self.states[name], "down", now_ms) if state["feed"] == "none" else state
            for name, state in states.items()
        }


def feed_states(processes: Mapping[str, Mapping[str, Any]], exchanges: Iterable[str]) -> dict[str, dict[str, Any]]:
    """{"feed", "since", "at"} of each exchange; where several shards serve one, the worst of them speaks."""
    states: dict[str, dict[str, Any]] = {}
    for exchange in map(str, exchanges):
        shards = [_state(facts) for name, facts in processes.items() if _serves(name, facts, exchange)]
        states[exchange] = max(shards, key=lambda state: _SEVERITY.index(state["feed"])) if shards else dict(NONE)
    return states


def _lost(state: dict[str, Any], feed: str, now_ms: int) -> dict[str, Any]:
    """The state of a feed nothing is heard of any more; one that was not connected stays what it was."""
    return {**state, "feed": feed, "since": now_ms} if state["feed"] not in {"none", "down", feed} else state


def _serves(name: str, facts: Mapping[str, Any], exchange: str) -> bool:
    return name.startswith("streamer") and facts.get("exchange", name.split("-")[1:2]) in (exchange, [exchange])


def _state(facts: Mapping[str, Any]) -> dict[str, Any]:
    feed = facts.get("feed")
    state = {"feed": feed if feed in _SEVERITY else "down", "since": facts.get("since"), "at": facts.get("at")}
    if facts["age_s"] > STALE_S:
        state.update(feed="down", since=facts.get("beat_ms"))
    return state
