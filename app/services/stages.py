"""The way of a trade in five stages, each with its state, its lag and its count; and the whole in one line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from app.domain.instruments import RULES, Exchange
from app.services.status import BACKLOG, Facts

State = Literal["ok", "quiet", "behind", "broken", "unknown"]
Summary = Literal["ok", "behind", "degraded", "down"]

# Seconds of lag from which a stage counts as behind. A minute is verified once the exchange has listed it.
QUEUE_S, BARS_S, VERIFIED_S, CHARTS_S = 10.0, 90.0, 300.0, 90.0
WAITING = 200  # messages: short of the trouble that BACKLOG is
SHARE = 0.95  # of the last day's bars: less is worth a word


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; `count` is in `unit`, `of` so many where there is a whole, `lag_s` None where nothing tells."""

    stage: str
    state: State
    words: str
    lag_s: float | None
    count: int | None
    unit: str
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen beside the facts: whether each store answered, exchange time, and this process's clients."""

    redis: bool
    database: bool
    now_ms: int
    speed: float = 1.0  # exchange seconds in one of ours
    clients: int = 0
    subscribed: bool = True


def stages(facts: Facts, seen: Seen) -> list[Stage]:
    """Feeds, queue, bars, verified, charts."""
    return [_feeds(facts, seen), _queue(facts, seen), _bars(facts, seen), _verified(facts, seen), _charts(facts, seen)]


def summary(facts: Facts, seen: Seen, lanes: list[Stage]) -> dict[str, Any]:
    """{"level", "words", "remedy"}: whether all is well, or what is wrong first, and what to do about it."""
    if facts.troubles:
        first, more = facts.troubles[0], len(facts.troubles) - 1
        words = first.what + (f", and {more} more" if more else "")
        return {"level": "degraded" if seen.database else "down", "words": words, "remedy": first.remedy or None}
    if late := [lane for lane in lanes if lane.state in ("behind", "broken")]:
        words = f"{late[0].stage.capitalize()}: {late[0].words}"
        return {"level": "behind", "words": words, "remedy": "It should catch up by itself; wait a few minutes."}
    parts = [lanes[0].words, *(lane.words for lane in lanes[3:4] if lane.state == "ok")]
    return {"level": "ok", "words": f"All is well: {', '.join(parts)}.", "remedy": None}


def _feeds(facts: Facts, seen: Seen) -> Stage:
    state: State
    name, unit = "feeds", "connected"
    if not seen.redis:
        return Stage(name, "unknown", "nothing is heard without Redis", None, None, unit)
    wanted = [row for row in facts.sources if row["feed"] not in {"no_key", "idle"}]
    connected = [row for row in wanted if row["feed"] == "connected"]
    closed = [row for row in wanted if row["feed"] == "closed"]
    lags = [beat.get("lag_ms") for beat in facts.feeds if beat.get("feed") == "connected"]
    lag_s = _seconds(max((lag for lag in lags if lag is not None), default=None), seen)
    if bad := [row for row in wanted if row["feed"] in {"down", "refused"}]:
        state, words = "broken", f"{_titles(bad)} {'is' if len(bad) == 1 else 'are'} {bad[0]['feed']}"
    elif bad := [row for row in wanted if row["feed"] == "reconnecting"]:
        state, words = "behind", f"{_titles(bad)} {'is' if len(bad) == 1 else 'are'} reconnecting"
    elif connected:
        state = "ok"
        words = f"{len(connected)} {'feed' if len(connected) == 1 else 'feeds'} connected"
        if closed:
            words += f", {len(closed)} waiting for {'its market' if len(closed) == 1 else 'their markets'}"
    else:
        state = "quiet"
        words = "every market is closed" if closed else "no feed was heard of yet"
    return Stage(name, state, words, lag_s, len(connected), unit, len(wanted))


def _queue(facts: Facts, seen: Seen) -> Stage:
    state: State
    name, unit = "queue", "messages waiting"
    if not seen.redis:
        return Stage(name, "unknown", "the queues are in Redis", None, None, unit)
    if not facts.broker:
        return Stage(name, "broken", "the broker cannot be reached", None, None, unit)
    waiting = sum(count or 0 for queue, count in facts.queues.items() if queue not in {"taken, not done", "parked"})
    received = {row["exchange"]: row["at"] for row in facts.sources if row["feed"] == "connected" and row["at"]}
    lags = [received[exchange] - facts.clocks[exchange] for exchange in received.keys() & facts.clocks.keys()]
    lag_s = _seconds(max(lags, default=None), seen)
    if waiting > BACKLOG:
        state, words = "broken", "the workers do not keep up"
    elif waiting > WAITING or (lag_s or 0) > QUEUE_S:
        state, words = "behind", "work is waiting"
    else:
        state, words = "ok", "nothing waits for long"
    return Stage(name, state, words, lag_s, waiting, unit)


def _bars(facts: Facts, seen: Seen) -> Stage:
    state: State
    name, unit = "bars", "1m bars in 24 h"
    if not seen.database:
        return Stage(name, "broken", "nothing is stored without the database", None, None, unit)
    closed = sum(row["closed"] for row in facts.verification)
    lag_s = _behind(_newest(facts, "time_ms"), facts, seen)
    if lag_s is None:
        state, words = "quiet", "no open market with a live feed"
    elif lag_s > BARS_S:
        state, words = "behind", "trades are stored late, or there are none"
    else:
        state, words = "ok", "trades are stored as they come"
    return Stage(name, state, words, lag_s, closed, unit)


def _verified(facts: Facts, seen: Seen) -> Stage:
    state: State
    name, unit = "verified", "verified"
    if not seen.database:
        return Stage(name, "unknown", "known to the database only", None, None, unit)
    closed = sum(row["closed"] for row in facts.verification)
    verified = sum(row["verified"] for row in facts.verification)
    lag_s = _behind(_newest(facts, "verified_ms"), facts, seen)
    share = verified / closed if closed else None
    words = "nothing to verify yet" if share is None else f"{share:.1%} of a day's bars are verified"
    if facts.late_holes:
        state, words = "behind", f"{facts.late_holes:,} holes wait for repair"
    elif share is None:
        state = "quiet"
    elif share < SHARE or (lag_s or 0) > VERIFIED_S:
        state = "behind"
    else:
        state = "ok"
    return Stage(name, state, words, lag_s, verified, unit, closed)


def _charts(facts: Facts, seen: Seen) -> Stage:
    name, unit = "charts", "live pages here"
    if not seen.redis:
        return Stage(name, "broken", "charts come from the database, nothing is live", None, seen.clients, unit)
    lag_s = _behind(facts.prices, facts, seen)
    if seen.clients and not seen.subscribed:
        return Stage(name, "behind", "subscribing to updates", lag_s, seen.clients, unit)
    late = lag_s is not None and lag_s > CHARTS_S
    words = "no new price for a while" if late else "updates arrive as they happen"
    return Stage(name, "behind" if late else "ok", words, lag_s, seen.clients, unit)


def _newest(facts: Facts, what: str) -> dict[str, int]:
    """The newest such time of each exchange."""
    found: dict[str, int] = {}
    for row in facts.last_trades:
        if row[what]:
            found[row["exchange"]] = max(row[what], found.get(row["exchange"], 0))
    return found


def _behind(times: dict[str, int], facts: Facts, seen: Seen) -> float | None:
    """How far the exchange that is furthest behind is; only those count whose trades should come in right now."""
    ages = [
        seen.now_ms - times[row["exchange"]]
        for row in facts.sources
        if row["feed"] == "connected" and not RULES[Exchange(row["exchange"])].delay_s and row["exchange"] in times
    ]
    return _seconds(max(ages, default=None), seen)


def _seconds(exchange_ms: float | None, seen: Seen) -> float | None:
    return None if exchange_ms is None else round(max(0.0, exchange_ms / 1000 / seen.speed), 1)


def _titles(rows: list[dict[str, Any]]) -> str:
    return " and ".join(row["title"] for row in rows)
