"""How the platform is: what the command `status`, the API and the page say, gathered once, from Redis and database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

import sqlalchemy as sa

from app.config import Settings
from app.domain.gaps import CAUSES
from app.domain.history import ListedBackfill
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.timeframes import DAY_MS
from app.errors import Unavailable
from app.services.backfilling import told
from app.services.feed_states import UNHEARD, feed_states, missing_keys
from app.services.markets import Markets
from app.services.processes import process_rows, stale_s, supervised, whole
from app.services.stores import Sessions

HOLE_S = 300  # a hole is repaired within seconds of its minute's end; one this old is stuck
BACKLOG = 1000  # messages waiting in a queue: more is worth a warning
CALENDAR_MS = 28 * DAY_MS  # a calendar that ends sooner needs somebody: it is stored for over a year where it goes on
HOLES_SHOWN = BACKFILLS_SHOWN = 20
BROKEN = {"refused", "down", "reconnecting"}
Level = Literal["ok", "degraded"]
States = Mapping[str, Mapping[str, Any]]
Rows = list[dict[str, Any]]


class Trouble(NamedTuple):
    """What is wrong, and what to do about it."""

    what: str
    remedy: str


class Signals(Protocol):
    """app.cache.signals."""

    def beats(self) -> dict[str, dict[str, Any]]: ...
    def counters(self) -> dict[str, int]: ...
    def queues(self, names: Sequence[str], /) -> dict[str, int]: ...
    def taken(self) -> int | None: ...
    def parked(self) -> int: ...
    def prices(self) -> dict[str, tuple[float, int]]: ...
    def memory(self) -> tuple[int, int]: ...


class Records(Protocol):
    """app.storage.quality."""

    def last_trades(self, connection: sa.Connection, /, *, since_ms: int) -> list[dict[str, Any]]: ...
    def clocks(self, connection: sa.Connection, /) -> dict[str, int]: ...
    def waiting_holes(
        self, connection: sa.Connection, /, *, late_s: float, skip: Collection[str] = ...
    ) -> tuple[int, int]: ...
    def holes(
        self,
        connection: sa.Connection,
        /,
        *,
        open_only: bool = ...,
        skip: Collection[str] | None = ...,
        limit: int = ...,
    ) -> list[dict[str, Any]]: ...
    def verification(self, connection: sa.Connection, since_ms: int, /) -> list[dict[str, Any]]: ...


class BackfillList(Protocol):
    """app.storage.backfills."""

    def listed(
        self, connection: sa.Connection, /, *, active_only: bool = ..., running_first: bool = ..., limit: int = ...
    ) -> list[ListedBackfill]: ...
    def at_work(self, connection: sa.Connection, /) -> tuple[int, int]: ...


@dataclass(slots=True)
class Facts:
    """The state of the platform, as far as it could be seen; `troubles` is empty when all is well.

    A closed market or a key that nobody set is no trouble, but worth one of the `notes`.
    """

    processes: list[dict[str, Any]] = field(default_factory=list)
    feeds: list[dict[str, Any]] = field(default_factory=list)  # heartbeats, of processes of every kind
    queues: dict[str, int | None] = field(default_factory=dict)  # None: the broker does not tell
    broker: bool = True  # whether it answers
    counters: dict[str, int] = field(default_factory=dict)
    last_trades: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)  # by calendar, as its first exchange has it
    clocks: dict[str, int] = field(default_factory=dict)  # exchange → ms up to which its feed is stored
    prices: dict[str, int] = field(default_factory=dict)  # exchange → ms of the newest price that charts were told
    open_holes: int = 0  # of symbols that are collected, of exchanges that can be asked
    late_holes: int = 0
    holes: list[dict[str, Any]] = field(default_factory=list)  # the newest open ones
    verification: list[dict[str, Any]] = field(default_factory=list)  # of the last 24 hours, by exchange
    backfills: list[dict[str, Any]] = field(default_factory=list)  # those not over
    backfills_open: tuple[int, int] = (0, 0)  # at work, and not over in all
    redis_bytes: int | None = None
    redis_limit_bytes: int = 0  # 0: none
    notes: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def process_rows(self) -> list[dict[str, Any]]:
        """Each process once, with what `up` and it itself say (app.services.processes)."""
        return process_rows(self.processes, self.feeds)

    @property
    def level(self) -> Level:
        """`ok`, or `degraded` when anything troubles."""
        return "degraded" if self.troubles else "ok"


def queue_names(settings: Settings) -> list[str]:
    """Every queue of the workers."""
    trades = [f"trades.{shard}" for shard in range(settings.trade_shards)]
    return [*trades, "bars", "indicators", "polling", "backfill", "upkeep"]


@dataclass(frozen=True, slots=True)
class Status:
    """Gathers; `records`, `backfills` and `sessions` are modules of app/storage."""

    settings: Settings
    records: Records
    backfills: BackfillList
    sessions: Sessions
    instruments: Callable[[sa.Connection], list[Instrument]]  # the watchlist: those that are collected

    def hear(self, facts: Facts, signals: Signals, states: States | None = None) -> None:
        """Fills in what Redis knows: processes, feeds, queues, counters.

        `states` are the feeds' where somebody has watched them for longer than this look. Raises RedisError.
        """
        beats = signals.beats()
        facts.processes = supervised(beats)
        unwell = {child["name"]: child["state"] for child in facts.processes if child["state"] != "ready"}
        for name, state in unwell.items():
            remedy = f"{self._log(name)} has the reason; `up` starts it again by itself unless it gave up"
            facts.troubles.append(Trouble(f"{name} is {state}", remedy))
        for name, beat in beats.items():
            stale = beat["age_s"] > stale_s(name, beat.get("feed"))
            facts.feeds.append({"name": name, "stale": stale, **beat})
            if stale and whole(name) not in unwell:
                what = f"{name} has not been heard of for {beat['age_s']:.0f} s"
                facts.troubles.append(Trouble(what, f"is it running? {self._log(whole(name))} has its last words"))
        self._feeds(facts, feed_states(beats, Exchange) if states is None else states)
        self._queues(facts, signals)
        facts.queues["parked"] = parked = signals.parked()
        if parked:
            remedy = "the workers' logs say why; trades among them are repaired from the exchange"
            facts.troubles.append(Trouble(f"{_parked(parked)} too often", remedy))
        facts.counters = signals.counters()
        for key, (_, time_ms) in signals.prices().items():
            exchange = key.split(":", 1)[0]
            facts.prices[exchange] = max(time_ms, facts.prices.get(exchange, 0))
        facts.redis_bytes, facts.redis_limit_bytes = signals.memory()

    def look(self, facts: Facts, connection: sa.Connection, now_ms: int, *, verification: Rows | None = None) -> None:
        """Fills in what the database knows: newest trades, hours, holes, verification, backfills.

        `now_ms` is exchange time, `verification` what is known of it from shortly before. Comes after hear(), whose
        feeds it gives their markets.
        """
        facts.last_trades = self.records.last_trades(connection, since_ms=now_ms - DAY_MS)
        facts.clocks = self.records.clocks(connection)
        skip = [row["exchange"] for row in facts.sources if row["feed"] == "no_key"]  # nobody can fill these
        facts.open_holes, facts.late_holes = self.records.waiting_holes(connection, late_s=HOLE_S, skip=skip)
        self._hours(facts, connection, now_ms)
        facts.holes = self.records.holes(connection, open_only=True, skip=skip, limit=HOLES_SHOWN)
        for row in facts.holes:
            row["reason"] = CAUSES.get(row["cause"], row["cause"])
        facts.verification = self.verification(connection, now_ms) if verification is None else verification
        found = self.backfills.listed(connection, active_only=True, running_first=True, limit=BACKFILLS_SHOWN)
        facts.backfills = [told(each) for each in found]
        facts.backfills_open = self.backfills.at_work(connection)
        if facts.late_holes:
            holes = "1 hole has" if facts.late_holes == 1 else f"{facts.late_holes:,} holes have"
            what = f"{holes} waited over {HOLE_S // 60} minutes for repair"
            facts.troubles.append(Trouble(what, "each hole's last error says what its source answered"))

    def verification(self, connection: sa.Connection, now_ms: int) -> Rows:
        """How much of the last 24 hours is verified, by exchange; without TimescaleDB it counts a day of minutes."""
        found = self.records.verification(connection, now_ms - DAY_MS)
        return [{**row, "share": round(row["verified"] / row["closed"], 4) if row["closed"] else None} for row in found]

    def _queues(self, facts: Facts, signals: Signals) -> None:
        try:
            lengths, taken = signals.queues(queue_names(self.settings)), signals.taken()
        except Unavailable:
            facts.broker = False
            remedy = (
                "trades wait in the streamers, and history repairs what does not fit there; is CELERY_BROKER_URL up?"
            )
            facts.troubles.append(Trouble("The broker cannot be reached: nothing is worked on", remedy))
            return
        for name, waiting in lengths.items():
            if waiting > BACKLOG:
                remedy = "its workers are behind or gone: see the processes, and the logs of its worker"
                facts.troubles.append(Trouble(f"queue {name} holds {waiting:,} messages", remedy))
        facts.queues = {**lengths, "taken, not done": taken}

    def _log(self, process: str) -> str:
        """Where a process writes what happens to it."""
        return f"logs/{process}.log" if self.settings.log_files else f"the log of {process}"

    def _feeds(self, facts: Facts, states: States) -> None:
        """Each source's feed; a refused or broken one is trouble, a missing key is worth a note."""
        missing = missing_keys(self.settings)
        for name, state in states.items():
            rules, feed = RULES[Exchange(name)], state["feed"]
            row: dict[str, Any] = {"exchange": name, "title": rules.title, "feed": feed, "markets": {}, "hours": {}}
            row |= {"delay_s": rules.delay_s, "error": state["error"], "since": state["since"], "at": state["at"]}
            row["missing"] = missing.get(name)
            if name in missing and feed in UNHEARD:
                row["feed"] = "no_key"
                facts.notes.append(f"{rules.title} is not collected: set {missing[name]}")
            elif feed in BROKEN:
                what = f"{rules.title}: the feed is {feed}" + (f": {state['error']}" if state["error"] else "")
                log = "worker-history" if name == Exchange.YAHOO else f"streamer-{name}"
                remedy = f"{self._log(log)} has the reason and the next attempt; its minutes are repaired afterwards"
                facts.troubles.append(Trouble(what, remedy))
            facts.sources.append(row)

    def _hours(self, facts: Facts, connection: sa.Connection, now_ms: int) -> None:
        """The hours of every calendar in use, with the date of the last session known."""
        connect: Callable[[], Any] = lambda: nullcontext(connection)  # noqa: E731
        markets = Markets(connect, self.sessions, now_ms=lambda: now_ms, extended=self.settings.extended_hours)
        sources = {row["exchange"]: row for row in facts.sources}
        states = markets.states({(item.exchange.value, item.calendar) for item in self.instruments(connection)})
        for exchange, calendar in sorted(states):
            state = states[exchange, calendar]
            hours = {**state.json(), "words": state.words(), "last": self.sessions.last(connection, calendar)}
            facts.sessions.setdefault(calendar, hours)
            if exchange in sources:
                sources[exchange]["markets"][calendar] = state.words()
                sources[exchange]["hours"][calendar] = hours
        for calendar, said in facts.sessions.items():
            if said["state"] == "unknown":
                facts.notes.append(f"the sessions of {calendar} are not known yet")
            if said["last"] is not None and said["last"] < now_ms + CALENDAR_MS:
                facts.troubles.append(_ending(calendar, said["last"], now_ms))


def _ending(calendar: str, last_ms: int, now_ms: int) -> Trouble:
    ends = "ends" if last_ms + DAY_MS > now_ms else "ended"
    day = f"{datetime.fromtimestamp(last_ms / 1000, UTC):%Y-%m-%d}"
    what = f"the calendar {calendar} {ends} on {day}: update exchange_calendars or the platform, and restart"
    return Trouble(what, "its holidays are announced year by year; without hours its symbols are not collected")


def _parked(count: int) -> str:
    return "1 message is parked: it failed" if count == 1 else f"{count:,} messages are parked: they failed"
