"""The stub's answers of /api/status and /api/backfills: a platform that is well, and what can go wrong with it."""

from __future__ import annotations

import itertools
import json
from typing import Any

from flask import Flask, Response, render_template, request

from app.domain.counted import meaning
from tests.browser.generated import MINUTE, NOW, Row
from tests.browser.states import States

DAY = 1440 * MINUTE
TOKEN = "a token of the tests"
OVER = {"done", "failed", "cancelled"}
FLOWER = "http://127.0.0.1:5555"
TIMEFRAMES = ["1m", "5m", "15m", "1h", "4h", "1d"]


def lane(stage: str, words: str, *, lag: float | None, count: int, unit: str, of: int | None = None) -> Row:
    """A stage that is well."""
    return {"stage": stage, "state": "ok", "words": words, "lag_s": lag, "count": count, "unit": unit, "of": of}


def hole(number: int, symbol: str, *, minutes: int, error: str | None = None) -> Row:
    """An open hole found some minutes ago."""
    start = NOW - (minutes + 6) * MINUTE
    return {
        "id": number, "exchange": "binance", "symbol": symbol, "start": start, "end": start + 4 * MINUTE,
        "cause": "feed down", "reason": "the feed was down", "found": NOW - minutes * MINUTE, "repaired": None,
        "attempts": 3, "tried": NOW - MINUTE, "next_try": NOW + 42_000, "error": error, "first_id": None,
        "last_id": None,
    }  # fmt: skip


class Platform:
    """The state of the made-up platform; tests change it and set its faults."""

    def __init__(self, states: States) -> None:
        self.states = states
        self.summary: Row = {
            "level": "ok", "remedy": None,
            "words": "All is well: 2 feeds connected, 1 waiting for its market, 99.8% of a day's bars are verified.",
        }  # fmt: skip
        self.lanes = [
            lane("feeds", "2 feeds connected, 1 waiting for its market", lag=0.2, count=2, unit="connected", of=3),
            lane("queue", "nothing waits for long", lag=0.4, count=3, unit="messages waiting"),
            lane("bars", "trades are stored as they come", lag=0.6, count=16_214, unit="1m bars in 24 h"),
            lane("verified", "99.8% of a day's bars are verified", lag=71.0, count=16_182,
                 unit="verified", of=16_214),
            lane("charts", "updates arrive as they happen", lag=0.3, count=4, unit="live pages here"),
        ]  # fmt: skip
        self.troubles: list[Row] = []
        self.notes: list[str] = []
        self.holes: list[Row] = []
        self.database = self.redis = True
        self.backfills: list[Row] = []
        self.needs_token = False
        self.refusing: tuple[int, str, str] | None = None  # what POST is answered with
        self.wrote: list[Row] = []
        self.asked = 0
        self._ids = itertools.count(1)

    def add(self, symbol: str, *, state: str = "running", done: float = 0.25, **more: Any) -> Row:
        """A backfill of a week."""
        row = {
            "id": next(self._ids), "exchange": "binance", "symbol": symbol, "timeframe": "1m", "start": NOW - 7 * DAY,
            "end": NOW, "state": state, "done": done, "cursor": NOW, "bars": int(10_080 * done), "rate": 2310.4,
            "left_s": 125.0, "note": "", "error": None, "asked_by": "user", "started": NOW, "updated": NOW,
            "next_try": None, "empty_to": None, **more,
        }  # fmt: skip
        self.backfills.append(row)
        return row

    def answer(self) -> Row:
        """The answer of /api/status."""
        self.asked += 1
        feeds = [
            {"exchange": name, "title": title, **self.states.feed(name)}
            for name, title in (("binance", "Binance"), ("alpaca", "Alpaca"), ("yahoo", "Borsa Istanbul"))
        ]
        queues = {"trades.0": 2, "bars": 1, "indicators": 0, "polling": 0, "backfill": 0, "upkeep": 0}
        counts = {"binance_rate_limited": 2, "repaired_bars": 41, "trades": 4_812_551, "verified": 48_114}
        read, heard = self.database, self.redis
        open_ = [row for row in self.backfills if row["state"] not in OVER][::-1]
        away = {"ok": False, "ms": None, "bytes": None}
        database = {"ok": True, "ms": 3.1, "bytes": 411_000_000, "connections": 19, "server": "18.4"}
        return {
            "status": "ok" if not self.troubles else "degraded" if read else "down",
            "at": NOW, "now": NOW, "summary": self.summary, "stages": self.lanes, "troubles": self.troubles,
            "notes": self.notes,
            "processes": self._processes() if heard else [],
            "feeds": feeds if heard else [],
            "queues": [{"queue": name, "waiting": n} for name, n in queues.items()] if heard else [],
            "taken": 2 if heard else None, "parked": 0 if heard else None,
            "holes": {"open": len(self.holes), "late": len(self.holes), "newest": self.holes if read else []},
            "verification": self._verification() if read else [],
            "backfills": {
                "open": len(open_), "running": sum(row["state"] == "running" for row in open_),
                "at_work": open_ if read else [],
            },
            "counters": [
                {"reason": key, "count": n, "meaning": meaning(key)} for key, n in counts.items()
            ] if heard else [],
            "database": {**(database if read else {**away, "connections": None, "server": None}), "timescaledb": None},
            "redis": {"ok": True, "ms": 0.6, "bytes": 8_400_000} if heard else away,
            "links": {"flower": FLOWER, "api": "/api/docs"},
        }  # fmt: skip

    def _processes(self) -> list[Row]:
        names = ["web", "worker-trades", "worker-bars", "worker-history", "worker-backfill", "beat", "flower"]
        rows = [{"name": n, "state": "ready", "pid": 4100 + i, "restarts": 0, "heard_s": None, "facts": {}}
                for i, n in enumerate(names)]  # fmt: skip
        facts = {"exchange": "binance", "feed": "connected", "trades": 4_812_551, "lag_ms": 180, "reconnects": 1}
        streamer = {"name": "streamer-binance", "state": "ready", "pid": 4201, "restarts": 1, "heard_s": 0.7}
        return [*rows, {**streamer, "facts": facts}]

    def _verification(self) -> list[Row]:
        rows = (("alpaca", 2730, 2728, 0), ("binance", 7195, 7185, 2), ("yahoo", 6289, 6269, 0))
        return [
            {"exchange": name, "closed": n, "verified": good, "differences": bad, "share": round(good / n, 4)}
            for name, n, good, bad in rows
        ]


def install(app: Flask, market: Any) -> None:
    """Add the page and its API."""

    @app.get("/status")
    def status_page() -> str:
        return render_template("status.html", timeframes=TIMEFRAMES)

    @app.get("/api/status")
    def status() -> Row:
        return dict(market.platform.answer())

    @app.get("/api/backfills")
    def backfills() -> Row:
        return {"backfills": market.platform.backfills[::-1], "next": None}

    @app.post("/api/backfills")
    def ask() -> tuple[Response, int]:
        platform, body = market.platform, request.get_json()
        if (refusal := _unauthorised(platform)) is not None:
            return refusal
        platform.wrote.append(body)
        if platform.refusing is not None and not body.get("keep"):
            return _error(*platform.refusing)
        named = [one["symbol"] for one in body.get("symbols", [])] or ["BTC/USDT", "ETH/USDT"]
        made = [platform.add(name, state="waiting", done=0.0, note="waits for its turn") for name in named]
        return _json({"backfills": made, "too_new": [], "kept": [], "note": None}), 202

    @app.delete("/api/backfills/<int:number>")
    def cancel(number: int) -> tuple[Response, int]:
        platform = market.platform
        if (refusal := _unauthorised(platform)) is not None:
            return refusal
        row = next(row for row in platform.backfills if row["id"] == number)
        if row["state"] in OVER:
            return _error(409, "backfill_over", f"backfill {number} is {row['state']}: there is nothing to cancel")
        row.update(state="cancelled", left_s=None, note="cancelled")
        return _json(row), 200


def _unauthorised(platform: Platform) -> tuple[Response, int] | None:
    if not platform.needs_token or request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    given = "Authorization" in request.headers
    words = "This token is not known here." if given else "This needs the API token: API_TOKEN of the settings."
    return _error(401, "unauthorized", words)


def _error(status: int, code: str, message: str) -> tuple[Response, int]:
    return _json({"error": {"code": code, "message": message}}), status


def _json(body: Row) -> Response:
    return Response(json.dumps(body), mimetype="application/json")
