"""Health: what works, whether this process lives, and whether it can serve charts."""

from __future__ import annotations

import time
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Blueprint, Response
from redis import RedisError

from app.cache import health
from app.errors import SchemaError
from app.storage import revision
from webapp.answers import ErrorAnswer, HealthAnswer, LiveAnswer, ReadyAnswer
from webapp.composition import Web
from webapp.errors import AWAY, fault
from webapp.openapi import describe

DEGRADED = "Redis cannot be reached: charts come from the database; no live updates"
UNREACHED = {"code": "unavailable", "message": "the database cannot be reached; try again in a moment"}


def install(api: Blueprint, web: Web) -> None:
    """Add the routes below /api."""

    @api.get("/health")
    @describe(answers={200: HealthAnswer, 503: HealthAnswer})
    def state() -> Response:
        """What works: 200 while charts can be read, 503 without the database."""
        facts = health_json(web)
        return _json(facts, status=503 if facts["status"] == "down" else 200)

    @api.get("/health/live")
    @describe(answers={200: LiveAnswer})
    def live() -> Response:
        """Whether the process serves; asks neither the database nor Redis."""
        return _json({"status": "live"}, status=200)

    @api.get("/health/ready")
    @describe(answers={200: ReadyAnswer, 503: ErrorAnswer})
    def ready() -> Response:
        """Whether charts can be served: 503 with the reason while the database is away or its schema is too old."""
        try:
            with web.engine.connect() as conn:
                revision.require(conn)
        except SchemaError as error:
            return _json(fault("old_schema", str(error)), status=503)
        except (*AWAY, sa.exc.DBAPIError):
            return _json(fault(**UNREACHED), status=503)
        reached = _redis(web)["ok"]
        return _json(
            {"status": "ready" if reached else "degraded", "effect": None if reached else DEGRADED}, status=200
        )


def health_json(web: Web) -> dict[str, Any]:
    """The state of database, Redis, live updates, feeds and processes; ok, degraded or down in one word."""
    database, redis = _database(web), _redis(web)
    live = {"clients": len(web.hub.members), "subscribed": web.hub.subscribed.is_set()}
    status = "down" if not database["ok"] else "ok" if redis["ok"] else "degraded"
    facts: dict[str, Any] = {"status": status, "database": database, "redis": redis, "live": live}
    replica = web.reads.state()
    if replica is not None:
        facts["replica"] = replica
        if status == "ok" and not replica["ok"]:
            facts["status"] = "degraded"
    facts["feeds"] = web.watch.states()
    try:
        facts["processes"], facts["counters"] = health.read(web.redis), health.counters(web.redis)
    except RedisError:
        facts["processes"], facts["counters"] = {}, {}
    if status == "down":
        facts["error"] = dict(UNREACHED)
    return facts


def _database(web: Web) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        with web.engine.connect() as conn:
            conn.execute(sa.text("SELECT 1"))
    except (*AWAY, sa.exc.DBAPIError) as error:
        return {"ok": False, "cause": type(error).__name__}
    return {"ok": True, "ms": _ms(began)}


def _redis(web: Web) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        web.redis.ping()
    except (RedisError, OSError) as error:
        return {"ok": False, "cause": type(error).__name__, "effect": "charts come from the database; no live updates"}
    return {"ok": True, "ms": _ms(began)}


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _json(body: Any, *, status: int) -> Response:
    return Response(orjson.dumps(body), status=status, mimetype="application/json")
