"""The REST API of the platform's state: one answer with all that the status page shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, Field

from app.domain.counted import meaning
from webapp.backfills import BackfillRow
from webapp.composition import Web
from webapp.gather import Found
from webapp.openapi import describe
from webapp.schemas import Query

COUNTED_APART = {"taken, not done", "parked"}


class StatusQuery(Query):
    """GET /api/status takes no parameter."""


class StageRow(BaseModel):
    """One stage of a trade's way; `lag_s` and `count` are null where nothing tells."""

    stage: str = Field(description="feeds, queue, bars, verified, charts")
    state: str = Field(description="ok, quiet, behind, broken, unknown")
    words: str
    lag_s: float | None
    count: int | None
    unit: str
    of: int | None


class SummaryRow(BaseModel):
    """The whole in one line."""

    level: str = Field(description="ok, behind, degraded, down")
    words: str
    remedy: str | None


class TroubleRow(BaseModel):
    """What is wrong and what to do about it."""

    what: str
    remedy: str


class ProcessRow(BaseModel):
    """A process: what `up` says of its child, and its own heartbeat; null or empty where there is none."""

    name: str
    state: str = Field(description="ready, starting, …; heard or silent for one that only has a heartbeat")
    pid: int | None
    restarts: int | None
    heard_s: float | None
    facts: dict[str, Any]


class FeedRow(BaseModel):
    """A source's feed, and the hours of its markets by calendar."""

    exchange: str
    title: str
    feed: str
    since: int | None
    at: int | None
    error: str | None
    missing: str | None
    delay_s: int
    markets: dict[str, dict[str, Any]]


class QueueRow(BaseModel):
    """A queue of the workers."""

    queue: str
    waiting: int


class HoleRow(BaseModel):
    """An open hole."""

    id: int
    exchange: str
    symbol: str
    start: int
    end: int
    cause: str
    reason: str
    found: int
    repaired: int | None
    attempts: int
    tried: int | None
    next_try: int | None
    error: str | None
    first_id: int | None
    last_id: int | None


class HolesPart(BaseModel):
    """The open holes: how many, how many for over five minutes, and the newest."""

    open: int
    late: int
    newest: list[HoleRow]


class VerificationRow(BaseModel):
    """1m bars of an exchange in the last 24 hours."""

    exchange: str
    closed: int
    verified: int
    differences: int
    share: float | None


class BackfillsPart(BaseModel):
    """The backfills that are not over: how many, how many are worked on, and the first of them."""

    open: int
    running: int
    at_work: list[BackfillRow]


class CounterRow(BaseModel):
    """A counter since the Redis database was made."""

    reason: str
    count: int
    meaning: str


class DatabasePart(BaseModel):
    """The database; all but `ok` null while it is away. `bytes` is up to a minute old."""

    ok: bool
    ms: float | None
    bytes: int | None
    connections: int | None
    server: str | None
    timescaledb: str | None


class RedisPart(BaseModel):
    """Redis; all but `ok` null while it is away."""

    ok: bool
    ms: float | None
    bytes: int | None


class LinksPart(BaseModel):
    """Where else to look; null where it cannot be reached from here."""

    flower: str | None
    api: str


class StatusAnswer(BaseModel):
    """The answer of GET /api/status; a part that could not be read is empty."""

    status: str = Field(description="ok, degraded, down")
    at: int = Field(description="wall time (ms) of the look; the answer may be a second old")
    now: int = Field(description="exchange time (ms) of the look")
    summary: SummaryRow
    stages: list[StageRow]
    troubles: list[TroubleRow]
    notes: list[str]
    processes: list[ProcessRow]
    feeds: list[FeedRow]
    queues: list[QueueRow]
    taken: int | None = Field(description="messages that workers have taken and not done with; RabbitMQ does not tell")
    parked: int | None = Field(description="messages put aside")
    holes: HolesPart
    verification: list[VerificationRow]
    backfills: BackfillsPart
    counters: list[CounterRow]
    database: DatabasePart
    redis: RedisPart
    links: LinksPart


def install(api: Blueprint, web: Web) -> None:
    """Add the route below /api."""

    @api.get("/status")
    @describe(query=StatusQuery, answers={200: StatusAnswer}, errors=(400,))
    def platform_status() -> Response:
        """How the platform is: stages, processes, feeds, queues, holes, verification, backfills, counters."""
        StatusQuery.read(request.args)
        body = status_json(web.gather())
        body["links"] = {"flower": web.gather.flower(_host(request.host)), "api": "/api/docs"}
        return Response(orjson.dumps(body), mimetype="application/json")


def status_json(found: Found) -> dict[str, Any]:
    """Everything but the links, which depend on who asks."""
    facts = found.facts
    return {
        "status": "down" if not found.database["ok"] else facts.level,
        "at": found.at_ms,
        "now": found.seen.now_ms,
        "summary": found.summary,
        "stages": [asdict(lane) for lane in found.lanes],
        "troubles": [trouble._asdict() for trouble in facts.troubles],
        "notes": facts.notes,
        "processes": facts.process_rows,
        "feeds": [_feed(row) for row in facts.sources],
        "queues": [{"queue": name, "waiting": n} for name, n in facts.queues.items() if name not in COUNTED_APART],
        "taken": facts.queues.get("taken, not done"),
        "parked": facts.queues.get("parked"),
        "holes": {"open": facts.open_holes, "late": facts.late_holes, "newest": facts.holes},
        "verification": facts.verification,
        "backfills": {
            "open": facts.backfills_open[1], "running": facts.backfills_open[0], "at_work": facts.backfills,
        },
        "counters": [
            {"reason": reason, "count": count, "meaning": meaning(reason)} for reason, count in facts.counters.items()
        ],
        "database": found.database,
        "redis": found.redis,
    }  # fmt: skip


def _feed(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("exchange", "title", "feed", "since", "at", "error", "missing", "delay_s")}
    if told["feed"] != "no_key":
        told["missing"] = None
    return {**told, "markets": row["hours"]}


def _host(host: str) -> str:
    """The name a browser reached us by, without the port."""
    return host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
