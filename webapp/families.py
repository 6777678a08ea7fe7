"""What was gathered, as families of metrics: pure, from what Redis and the database said to Prometheus's names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.config import Settings
from app.domain.counted import COUNTED, meaning
from app.domain.instruments import RULES, Exchange
from app.services.feed_states import UNHEARD, missing_keys
from app.services.status import Facts

BARS = {"verified": "verified", "repaired_bars": "repaired", "unequal_bars": "revised"}
TOLD = (*BARS, "trades")  # these have metrics of their own
HAPPENED = ("missing_bars_added", "corrections", "cancels", "server_shutdown", "holes_scanned", "bars_let_go")
_BUDGETS = {
    Exchange.BINANCE: "binance_weight_per_minute",
    Exchange.ALPACA: "alpaca_requests_per_minute",
    Exchange.YAHOO: "yahoo_requests_per_minute",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What Redis knows."""

    facts: Facts
    weights: Mapping[str, int]
    states: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Read:
    """What the database knows, by exchange."""

    exchanges: frozenset[str]
    open_now: frozenset[str]
    closing_s: Mapping[str, float]
    holes: Mapping[str, tuple[int, float]]
    shares: Mapping[str, float]
    backfills: tuple[int, int]  # at work, and not over in all
    size: int
    connections: int


def gauge(name: str, told: str, values: Mapping[str, float], label: str = "") -> Metric:
    """A gauge family."""
    family = GaugeMetricFamily(name, told, labels=[label] if label else ())
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def counter(name: str, told: str, values: Mapping[str, float], label: str = "") -> Metric:
    """A counter family."""
    family = CounterMetricFamily(name, told, labels=[label] if label else ())
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def disks(paths: Iterable[Path]) -> Iterator[Metric]:
    """Of each watched folder's disk: what is free for us, and its size."""
    free, size = {}, {}
    for path in paths:
        try:
            usage = shutil.disk_usage(path)
        except OSError as error:
            logger.debug("the disk of {} cannot be looked at: {}", path, error.strerror)
            continue
        free[str(path)], size[str(path)] = float(usage.free), float(usage.used + usage.free)
    yield gauge("market_disk_free_bytes", "Free space of a watched folder's disk", free, "disk")
    yield gauge("market_disk_size_bytes", "Size of a watched folder's disk", size, "disk")


def of_redis(heard: Heard, settings: Settings, *, speed: float) -> Iterator[Metric]:
    """Processes, feeds, queues, counters."""
    facts = heard.facts
    yield gauge("market_broker_up", "Whether the broker answers", {"": float(facts.broker)})
    yield gauge("market_redis_memory_bytes", "Memory that Redis holds", {"": float(facts.redis_bytes or 0)})
    limit = {"": float(facts.redis_limit_bytes)}
    yield gauge("market_redis_memory_limit_bytes", "Memory that Redis may hold, 0 where that has no bound", limit)
    ages = {beat["name"]: float(beat["age_s"]) for beat in facts.feeds}
    yield gauge("market_process_heartbeat_age_seconds", "Since a process's last heartbeat", ages, "process")
    stale = {beat["name"]: float(beat["stale"]) for beat in facts.feeds}
    yield gauge("market_process_stale", "Whether a process's last heartbeat is too old", stale, "process")
    ready = {child["name"]: float(child["state"] == "ready") for child in facts.processes}
    yield gauge("market_process_ready", "Whether a child of `up` serves", ready, "process")
    yield from _feeds(heard, settings, speed=speed)
    queues = dict(facts.queues)
    taken, parked = queues.pop("taken, not done", None), queues.pop("parked", None)
    waiting = {name: float(count) for name, count in queues.items() if count is not None}
    yield gauge("market_queue_messages", "Messages that wait in a queue", waiting, "queue")
    yield gauge("market_queue_taken_messages", "Messages that workers have taken and not done with", _known(taken))
    yield gauge("market_parked_messages", "Messages put aside since they failed too often", _known(parked))
    yield from _counted(facts.counters)
    used = {source: float(weight) for source, weight in heard.weights.items()}
    limits = {each.value: float(getattr(settings, _BUDGETS[each])) for each in Exchange}
    yield gauge("market_source_weight_used", "REST weight, or requests, spent in the last minute", used, "exchange")
    yield gauge("market_source_weight_limit", "REST weight, or requests, allowed a minute", limits, "exchange")


def _known(count: int | None) -> dict[str, float]:
    """The one value, or none where the broker does not tell."""
    return {} if count is None else {"": float(count)}


def unasked(settings: Settings, heard: Heard | None) -> frozenset[str]:
    """The exchanges that nothing can be had from: a key is missing, and nobody else is heard to have it."""
    missing = missing_keys(settings)
    return frozenset(name for name in missing if heard is None or heard.states[name]["feed"] in UNHEARD)


def _feeds(heard: Heard, settings: Settings, *, speed: float) -> Iterator[Metric]:
    absent = unasked(settings, heard)
    wanted = {
        name: state["feed"] for name, state in heard.states.items() if state["feed"] != "idle" and name not in absent
    }
    connected = {name: float(feed == "connected") for name, feed in wanted.items()}
    yield gauge("market_feed_connected", "Whether an exchange's feed is connected", connected, "exchange")
    silence: dict[str, float] = {}
    per_process: dict[str, dict[str, float]] = {"reconnects": {}, "trades": {}, "buffered": {}}
    for beat in heard.facts.feeds:
        exchange, name = beat.get("exchange"), beat["name"]
        if exchange not in wanted or RULES[Exchange(exchange)].delay_s:
            continue
        for what, values in per_process.items():
            if what in beat:
                values[name] = float(beat[what])
        if (silent_s := _silent_s(beat, speed)) is not None:
            silence[exchange] = max(silent_s, silence.get(exchange, 0.0))
    yield gauge("market_feed_silence_seconds", "Since a connected feed's last trade", silence, "exchange")
    said = "Connections of a streamer that were lost and made anew"
    yield counter("market_feed_reconnects", said, per_process["reconnects"], "process")
    yield counter("market_feed_trades", "Trades a streamer received", per_process["trades"], "process")
    said = "Trades a streamer holds since the broker is away or slow"
    yield gauge("market_feed_buffered_trades", said, per_process["buffered"], "process")


def _silent_s(beat: Mapping[str, Any], speed: float) -> float | None:
    """Wall seconds since the newest trade, by a streamer's own word and its age."""
    if beat.get("feed") != "connected":
        return None
    lag_ms = beat.get("lag_ms")
    if lag_ms is None:  # nothing came yet
        return max(0.0, time.time() - float(beat["since"]) / 1000) if beat.get("since") else None
    return max(0.0, float(lag_ms) / 1000 / speed) + float(beat["age_s"])


def _counted(counters: Mapping[str, int]) -> Iterator[Metric]:
    for reason, result in BARS.items():
        said = {"verified": "1m bars equal to the exchange's", "repaired": "Bars that repair changed or verified",
            "revised": "Bars that differed, in whose place the exchange's stand"}[result]  # fmt: skip
        yield counter(f"market_bars_{result}", said, {"": float(counters.get(reason, 0))})
    # Those that did not happen yet have their zero: a rate sees the first one only where a zero stood before it.
    rest = dict.fromkeys(COUNTED, 0) | {reason: count for reason, count in counters.items() if meaning(reason)}
    dropped = {reason: float(count) for reason, count in rest.items() if reason not in (*HAPPENED, *TOLD)}
    happened = {reason: float(count) for reason, count in rest.items() if reason in HAPPENED}
    yield counter("market_dropped", "What was dropped, refused, lost or late, by reason", dropped, "reason")
    yield counter("market_counted", "What else is counted, by reason", happened, "reason")


def of_database(read: Read, *, absent: Collection[str] = ()) -> Iterator[Metric]:
    """Hours, closing, holes, verification, backfills, size; nothing waits for the exchanges `absent`."""

    def each(values: Mapping[str, float]) -> dict[str, float]:
        names = sorted(read.exchanges | values.keys())
        return {name: 0.0 if name in absent else float(values.get(name, 0.0)) for name in names}

    label = "exchange"
    hours = {name: float(name in read.open_now) for name in sorted(read.exchanges)}
    yield gauge("market_feed_in_session", "Whether a market of the exchange that is collected is open", hours, label)
    late = "How long the oldest open 1m bar has been over, grace apart"
    yield gauge("market_closing_lag_seconds", late, each(read.closing_s), label)
    counts = {name: float(count) for name, (count, _) in read.holes.items()}
    yield gauge("market_holes_open", "Holes that wait for repair", each(counts), label)
    ages = {name: age_s for name, (_, age_s) in read.holes.items()}
    yield gauge("market_hole_oldest_seconds", "How long the oldest open hole has waited", each(ages), label)
    said = "Verified share of the last day's 1m bars that closed over ten minutes ago"
    shares = {name: share for name, share in read.shares.items() if name not in absent}
    yield gauge("market_verification_ratio", said, shares, label)
    running, unfinished = read.backfills
    yield gauge("market_backfills_running", "Backfills that are worked on", {"": float(running)})
    yield gauge("market_backfills_open", "Backfills that are not over", {"": float(unfinished)})
    yield gauge("market_database_size_bytes", "Size of the database", {"": float(read.size)})
    yield gauge("market_database_connections", "Connections the database has", {"": float(read.connections)})
