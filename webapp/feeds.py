"""The state of each exchange's feed as clients are told it: from the heartbeats, the market's hours and our keys.

| feed | means |
|---|---|
| connected | trades stream in, or the last poll succeeded |
| reconnecting, down | a streamer's own word; down also for one that was heard of and is gone |
| refused | the exchange does not let us in, `error` says why |
| closed | nothing is asked for while the market is closed |
| idle | there is nothing to collect |
| no_key | nothing runs, for want of what `missing` names |
| none | no streamer or poller of the exchange was ever heard of |

A market that is closed is told beside it (`markets`), never by a feed that looks broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from redis import Redis, RedisError

from app.cache import health
from app.domain.instruments import RULES, Exchange
from app.services.feed_states import POLLER_STALE_S, UNHEARD, States, feed_states

_TOLD = ("feed", "error", "missing", "markets")  # what makes a state another one; `at` moves all the time
MarketStates = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Exchange → calendar → what app.services.markets says of it."""


class Feeds:
    """The feeds' states as last read from Redis; `missing` says what an exchange without a key has to be given."""

    def __init__(
        self,
        redis: Redis,
        *,
        missing: Mapping[str, str] | None = None,
        markets: Callable[[], MarketStates] = dict,
    ) -> None:
        self._redis, self._missing, self._markets = redis, missing or {}, markets
        self._heard: States = {}
        self._open_since: dict[str, float] = {}
        self.states = self._before = self._told(feed_states({}, Exchange), {})

    def refresh(self) -> None:
        """Read the heartbeats and the hours."""
        self.states = self._told(self._read(), self._markets())

    def news(self) -> set[str]:
        """Read again; returns the exchanges whose state is another one than the last time this was asked."""
        self.refresh()
        before, self._before = self._before, self.states
        return {name for name in before if any(before[name][key] != self._before[name][key] for key in _TOLD)}

    def _read(self) -> States:
        now_ms = time.time_ns() // 1_000_000
        before = self._heard or feed_states({}, Exchange)
        try:
            states = feed_states(health.read(self._redis), Exchange)
        except (RedisError, OSError, ValueError):
            self._heard = {name: _lost(state, "reconnecting", now_ms) for name, state in before.items()}
            return self._heard
        # Redis may have lost the heartbeat of a streamer that is gone: what was there once is down, not unheard of.
        self._heard = {
            name: _lost(before[name], "down", now_ms) if state["feed"] == "none" else state
            for name, state in states.items()
        }
        return self._heard

    def _told(self, heard: States, markets: MarketStates) -> States:
        """What was heard, with the hours of the markets, what is missing, and by how much the source is behind."""
        told = {}
        for name, state in heard.items():
            hours = dict(markets.get(name, {}))
            if state["feed"] == "closed" and self._overslept(name, hours, state["age_s"]):
                state = {**state, "feed": "down"}
            rest: dict[str, Any] = {"delay_s": RULES[Exchange(name)].delay_s, "missing": None, "markets": hours}
            if name in self._missing and state["feed"] in UNHEARD:
                rest |= {"feed": "no_key", "missing": self._missing[name]}
            told[name] = {**state, **rest}
            del told[name]["age_s"]
        return told

    def _overslept(self, exchange: str, hours: Mapping[str, Mapping[str, Any]], age_s: float) -> bool:
        """Whether a poller still says "closed" though its market has been open for longer than it may be silent."""
        if not any(market["state"] == "open" for market in hours.values()):
            self._open_since.pop(exchange, None)
            return False
        since = self._open_since.setdefault(exchange, time.monotonic())
        return min(age_s, time.monotonic() - since) > POLLER_STALE_S


def _lost(state: dict[str, Any], feed: str, now_ms: int) -> dict[str, Any]:
    """The state of a feed nothing is heard of any more; one that was not connected stays what it was."""
    lasting = {"none", "down", "refused", "closed", "idle", "no_key", feed}
    return {**state, "feed": feed, "since": now_ms} if state["feed"] not in lasting else state
