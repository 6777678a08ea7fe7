"""What `status` asks Redis and the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from app.config import Settings
from app.services.feed_states import patience_s

if TYPE_CHECKING:
    import redis
    import sqlalchemy as sa

STALE_S = 15.0  # a heartbeat older than this is no heartbeat
HOLE_S = 300  # a hole is repaired within seconds of its minute's end; one this old is stuck
BACKLOG = 1000  # messages waiting in a queue: more is worth a warning
Level = Literal["ok", "degraded"]


@dataclass(slots=True)
class Facts:
    """The state of the platform, as far as it could be seen; `troubles` is empty when all is well.

    A closed market or a key that nobody set is no trouble, but worth one of the `notes`.
    """

    processes: list[dict[str, Any]] = field(default_factory=list)
    feeds: list[dict[str, Any]] = field(default_factory=list)
    queues: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    last_trades: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)  # by calendar
    open_holes: int = 0
    holes: list[dict[str, Any]] = field(default_factory=list)  # the newest open ones
    verification: list[dict[str, Any]] = field(default_factory=list)  # of the last 24 hours, by exchange
    backfills: list[dict[str, Any]] = field(default_factory=list)  # those not over
    notes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def level(self) -> Level:
        """`ok`, or `degraded` when anything troubles."""
        return "degraded" if self.troubles else "ok"


def queue_names(settings: Settings) -> list[str]:
    """Every queue of the workers."""
    trades = [f"trades.{shard}" for shard in range(settings.trade_shards)]
    return [*trades, "bars", "indicators", "polling", "backfill", "upkeep"]


def ask_redis(facts: Facts, client: redis.Redis, settings: Settings) -> None:
    """Fills in processes, feeds, queues and counters."""
    from app.cache import health, keys
    from app.cli.sources import ask_feeds

    beats = health.read(client)
    supervisor = beats.pop("up", None)
    if supervisor is not None and supervisor["age_s"] <= STALE_S:
        for name, child in supervisor["children"].items():
            facts.processes.append({"name": name, **child})
            if child["state"] != "ready":
                facts.troubles.append(f"{name} is {child['state']}")
    for name, beat in beats.items():
        stale = beat["age_s"] > max(STALE_S, patience_s(name, beat.get("feed")))
        facts.feeds.append({"name": name, "stale": stale, **beat})
        if stale:
            facts.troubles.append(f"{name} has not been heard of for {beat['age_s']:.0f} s")
    ask_feeds(facts, beats, settings)
    for name in queue_names(settings):
        facts.queues[name] = int(client.llen(name))
        if facts.queues[name] > BACKLOG:
            facts.troubles.append(f"queue {name} holds {facts.queues[name]:,} messages")
    facts.queues["taken, not done"] = int(client.hlen("unacked"))
    facts.queues["parked"] = int(client.llen(keys.PARKED))
    if facts.queues["parked"]:
        facts.troubles.append(f"{facts.queues['parked']:,} messages are parked: they failed too often")
    facts.counters = health.counters(client)


def ask_database(facts: Facts, connection: sa.Connection, settings: Settings) -> None:
    """Fills in the newest trade of each active instrument, hours, open holes, verification and backfills."""
    import sqlalchemy as sa

    from app.cli.platform import exchange_now_us
    from app.cli.sources import ask_hours, ask_quality

    newest = sa.text(
        """
        SELECT i.exchange, i.symbol, c.close AS price, c.time_ms
        FROM instruments i
        LEFT JOIN LATERAL (
            SELECT close, greatest(close_time / 1000, (extract(epoch FROM time) * 1000)::bigint) AS time_ms
            FROM candles_1m WHERE instrument_id = i.id AND volume > 0 AND open_time < 4611686018427387904
            ORDER BY time DESC LIMIT 1
        ) c ON true
        WHERE i.active ORDER BY i.id
        """
    )
    facts.last_trades = [dict(row) for row in connection.execute(newest).mappings()]
    holes = sa.text(
        "SELECT count(*), count(*) FILTER (WHERE found < now() - make_interval(secs => :late))"
        " FROM holes WHERE repaired IS NULL"
    )
    facts.open_holes, late = connection.execute(holes, {"late": HOLE_S}).one()
    now_ms = exchange_now_us(settings) // 1000
    ask_hours(facts, connection, settings, now_ms)
    ask_quality(facts, connection, now_ms)
    if late:
        facts.troubles.append(f"{late:,} holes have waited over {HOLE_S // 60} minutes for repair")
