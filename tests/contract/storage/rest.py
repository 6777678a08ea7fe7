"""What stands beside the bars at the start: coverage, holes, sessions, runs, official bars, outbox, backfills.

Times of the exchange in ms. Wall-clock stamps are ages in hours, a half past the full one, so that an age in whole
hours stays what it is while the suite runs.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.domain.timeframes import DAY_MS, MINUTE_MS
from tests.contract.storage.bars import AAPL, BTC, CLUSTERS, EDGE, ETH, HAND, LIVE, MSFT, NOW, OLD, SOL, THYAO, Row, at

HOUR_MS = 60 * MINUTE_MS
FIRST_DAY = at("2019-10-07")


def _hole(instrument: int, lo_ms: int, hi_ms: int, cause: str, **facts: Any) -> Row:
    row: Row = {"instrument_id": instrument, "lo": lo_ms, "hi": hi_ms, "cause": cause, "found": 5.5, "attempts": 0}
    return row | facts


def holes() -> list[Row]:
    """Open and repaired ones of every kind, numbered from 1."""
    m = MINUTE_MS
    rows = [
        _hole(SOL, HAND + 4 * m, HAND + 5 * m, "missing trades", first_id=116, last_id=120),
        _hole(BTC, LIVE + 5 * m, LIVE + 9 * m, "feed down", tried=2.5, attempts=2, error="timed out"),
        _hole(BTC, EDGE - 5 * m, EDGE + 5 * m, "late trade"),
        _hole(ETH, LIVE - 90 * m, LIVE - 80 * m, "connected", found=30.5),
        _hole(ETH, LIVE - 80 * m, LIVE - 70 * m, "feed down", repaired=3.5, tried=3.5, attempts=1),
        _hole(AAPL, CLUSTERS[3][0] + 4 * m, CLUSTERS[3][0] + 7 * m, "correction"),
        _hole(AAPL, CLUSTERS[1][0] + 4 * m, CLUSTERS[1][0] + 9 * m, "missing bars", repaired=26.5, attempts=3),
        _hole(THYAO, LIVE, LIVE + 20 * m, "not polled", error="429"),
        _hole(MSFT, OLD, OLD + 30 * m, "feed down", repaired=1000.5, tried=1000.5),
        _hole(BTC, NOW - 3 * m, NOW + 30 * m, "connected", found=1.5),
        _hole(MSFT, LIVE, LIVE + 3 * m, "missing bars", repaired=2.5, error="no source has it"),
    ]
    return [{"id": number, **row} for number, row in enumerate(rows, 1)]


def coverage() -> list[Row]:
    """[lo, hi) stretches as PostgreSQL writes multiranges; BTC and the stocks are followed to this day."""
    stretches: dict[tuple[int, str], list[tuple[int, int | None]]] = {
        (BTC, "1m"): [(OLD, OLD + 90 * MINUTE_MS), (CLUSTERS[1][0], None)],
        (ETH, "1m"): [(OLD, EDGE)],
        (SOL, "1m"): [(HAND, HAND + 9 * MINUTE_MS), (EDGE - DAY_MS, EDGE + DAY_MS), (LIVE, None)],
        (AAPL, "1m"): [(at("2019-10-11"), None)],
        (MSFT, "1m"): [(OLD, None)],
        (THYAO, "1m"): [(OLD, None)],
        (AAPL, "1d"): [(at("2019-10-01"), at("2019-10-17"))],
        (BTC, "5m"): [(OLD, EDGE)],
    }
    return [
        {"instrument_id": key[0], "timeframe": key[1], "stretches": _multirange(parts)}
        for key, parts in stretches.items()
    ]


def _multirange(parts: list[tuple[int, int | None]]) -> str:
    return "{" + ",".join(f"[{_iso(lo)},{'' if hi is None else _iso(hi)})" for lo, hi in parts) + "}"


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def sessions() -> list[Row]:
    """Five weeks of two calendars: the United States change to winter time, Istanbul has a half and a whole holiday."""
    rows: list[Row] = []
    for day in range(35):
        date = FIRST_DAY + day * DAY_MS
        if day % 7 >= 5:
            continue
        opening = date + (13 if date < at("2019-11-03") else 14) * HOUR_MS + 30 * MINUTE_MS
        rows.append({"calendar": "XNYS", "date": date, "open": opening, "close": opening + 390 * MINUTE_MS})
        if date == at("2019-10-29"):
            continue
        opening, length = date + 7 * HOUR_MS, 150 if date == at("2019-10-28") else 480
        rows.append({"calendar": "XIST", "date": date, "open": opening, "close": opening + length * MINUTE_MS})
    return rows


def settled() -> list[Row]:
    """Up to where stocks are complete, and were asked about."""
    return [
        {"instrument_id": AAPL, "until": LIVE + 38 * MINUTE_MS, "checked": None},
        {"instrument_id": MSFT, "until": LIVE + 30 * MINUTE_MS, "checked": CLUSTERS[3][0]},
        {"instrument_id": THYAO, "until": CLUSTERS[3][0] + 60 * MINUTE_MS, "checked": None},
    ]


def ledger() -> list[Row]:
    """Ids of streams: in pieces, whole, by run, empty, and one in thousands of pieces."""
    chance, pieces, at_id = random.Random(3), [], 1
    for _ in range(3000):
        at_id += chance.randrange(2, 10**6)
        pieces.append(f"[{at_id},{at_id + 1})")
    rows = {
        (BTC, 0): "{[1000,1500),[1505,2000),[2010,3000)}", (ETH, 0): "{[2000,2900)}",
        (SOL, 0): "{[101,116),[121,144),[150,155)}", (AAPL, 7): "{[5,9),[10,11)}", (AAPL, 8): "{}",
        (MSFT, 8): "{" + ",".join(pieces) + "}",
    }  # fmt: skip
    return [{"instrument_id": key[0], "run": key[1], "applied": applied} for key, applied in rows.items()]


def feeds() -> list[Row]:
    """Runs: one that moves, one that stands with a batch missing, one that ended, one long silent, an import."""
    both = {BTC: LIVE - HOUR_MS, ETH: LIVE - 85 * MINUTE_MS}
    rows = [
        (11, "binance", "live", "0/1", CLUSTERS[3][0], LIVE + 44 * MINUTE_MS, 40, both, 1.5, False),
        (12, "alpaca", "live", "0/1", LIVE, LIVE + 20 * MINUTE_MS, 7, {AAPL: LIVE}, 3.5, False),
        (13, "binance", "live", "0/1", OLD, LIVE - 60 * MINUTE_MS, 90, {ETH: OLD, BTC: OLD}, 26.5, True),
        (14, "alpaca", "live", "0/1", OLD, None, 0, {MSFT: OLD}, 50.5, False),
        (15, "binance", "import", "0/1", OLD, EDGE, 3, {}, 2.5, False),
    ]  # fmt: skip
    return [
        {
            "run": run, "exchange": exchange, "kind": kind, "shard": shard, "since": since, "clock": clock,
            "done": done,
            "subscribed": {str(i): since_ms * 1000 for i, since_ms in subscribed.items()}, "subscribed_n": 1,
            "last_n": 90 if ended else None, "ended": ended, "hi": EDGE if kind == "import" else None,
            "accepted": done * 10,
            "known": 3, "refused": 0, "progress": age,
        }
        for run, exchange, kind, shard, since, clock, done, subscribed, age, ended in rows
    ]  # fmt: skip


def feed_batches() -> list[Row]:
    """Not folded yet: two that follow, two behind a missing one, an import's, a stray, a forgotten run's."""
    rows = [
        (11, 41, LIVE + 45 * MINUTE_MS, 2.5), (11, 42, LIVE + 46 * MINUTE_MS, 1.5), (12, 9, LIVE + 30 * MINUTE_MS, 2.5),
        (12, 10, LIVE + 31 * MINUTE_MS, 1.5), (15, 5, EDGE + HOUR_MS, 3.5), (11, 39, LIVE, 2.5), (99, 1, OLD, 40.5),
    ]  # fmt: skip
    return [
        {
            "run": run, "n": n, "upto": upto, "accepted": n, "known": 1, "refused": n % 2,
            "hi": upto if run == 15 else None, "at": age,
        }
        for run, n, upto, age in rows
    ]  # fmt: skip


def touched() -> list[Row]:
    """The outbox: every stage, several shards of instruments, one wide mark over two days."""
    rows = [
        ("rollup", BTC, CLUSTERS[3][0], CLUSTERS[3][0] + 9 * MINUTE_MS, 2.5),
        ("rollup", SOL, HAND, HAND + 8 * MINUTE_MS, 1.5),
        ("indicators", BTC, OLD, OLD + 60 * MINUTE_MS, 4.5),
        ("publish", BTC, LIVE, LIVE, 1.5),
        ("indicators", AAPL, LIVE, LIVE + 5 * MINUTE_MS, 2.5),
        ("rollup", AAPL, LIVE, LIVE + 9 * MINUTE_MS, 1.5),
        ("rollup", ETH, EDGE - 10 * MINUTE_MS, EDGE + 10 * MINUTE_MS, 1.5),
        ("indicators", ETH, EDGE, EDGE, 1.5),
    ]
    return [
        {"id": number, "stage": stage, "instrument_id": instrument, "lo": lo_ms, "hi": hi_ms, "at": age}
        for number, (stage, instrument, lo_ms, hi_ms, age) in enumerate(rows, 1)
    ]


def _official(instrument: int, time_ms: int, age: float, **facts: Any) -> Row:
    row: Row = {
        "instrument_id": instrument, "time": time_ms, "open": 30.0, "high": 32.0, "low": 29.5, "close": 31.0,
        "volume": Decimal("1.50000000"), "quote_volume": Decimal("46.50"), "taker_buy_volume": Decimal(0),
        "trade_count": 4,
        "received": age,
    }  # fmt: skip
    return row | facts


def official_1m() -> list[Row]:
    """Of closed bars, of open ones, of minutes without a bar of ours, in coverage and outside; old and new."""
    m = MINUTE_MS
    rows = [
        _official(SOL, HAND, 2.5, first_id=101, last_id=110),
        _official(SOL, HAND + 4 * m, 2.5, first_id=116, last_id=120),
        _official(SOL, HAND + 5 * m, 1.5),
        _official(SOL, LIVE, 1.5, first_id=140, last_id=143, revised=True),
        _official(SOL, LIVE + m, 1.5),
        _official(SOL, LIVE + 2 * m, 2.5),
        _official(SOL, LIVE + 3 * m, 1.5),
        _official(ETH, LIVE + 200 * m, 2.5),
        _official(AAPL, EDGE - 5 * m, 30.5),
    ]
    return [{"revised": False, **row} for row in rows]


def official_rollups() -> list[Row]:
    """Longer bars of the exchange: some whose counterpart is verified, some that wait, one that nobody asked for."""
    rows = [("5m", OLD), ("5m", OLD + 5 * MINUTE_MS), ("5m", LIVE), ("15m", OLD), ("1h", OLD + 15 * MINUTE_MS)]
    rows += [("1h", LIVE - 30 * MINUTE_MS)]
    return [_official(BTC, time_ms, 30.5 if time_ms == LIVE else 2.5, timeframe=tf) for tf, time_ms in rows]


def differences() -> list[Row]:
    """What was found to differ; the last one long ago."""
    ours, theirs = {"open": "1.0", "volume": "2.50"}, {"open": "1.1", "volume": "2.50"}
    rows = [
        (BTC, "1m", LIVE, "stream", ["open"], ours, theirs, 1.5),
        (BTC, "1m", OLD, "history", ["missing"], ours, None, 2.5),
        (AAPL, "1m", LIVE + 60_000, "updated", ["open"], ours, theirs, 3.5),
        (SOL, "5m", HAND, "stream", ["open"], ours, theirs, 4.5),
        (BTC, "1m", OLD, "stream", ["open"], ours, theirs, 3000.5),
    ]  # fmt: skip
    names = ("instrument_id", "timeframe", "time", "source", "fields", "ours", "theirs", "found")
    return [{"id": number, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows, 1)]


def backfills() -> list[Row]:
    """Waiting, held by a worker, lost by one, waiting for the source, over; two that overlap, one of daily bars."""
    rows = [
        (BTC, "1m", OLD, OLD + DAY_MS, OLD, "waiting", "user", None, 2.5, None, None),
        (BTC, "1m", OLD - DAY_MS, OLD + HOUR_MS, OLD, "running", "user", None, 1.5, -10.5, OLD - HOUR_MS),
        (ETH, "1m", OLD, EDGE, OLD + HOUR_MS, "running", "start", None, 2.5, 1.5, None),
        (ETH, "5m", OLD, EDGE, OLD, "waiting", "start", "timed out", 3.5, -4.5, None),
        (AAPL, "1m", OLD, EDGE, OLD, "waiting", "start", "no key", 3.5, None, None),
        (SOL, "1m", HAND - DAY_MS, EDGE, EDGE, "done", "user", None, 50.5, None, HAND),
        (AAPL, "1d", at("2019-10-29"), at("2019-11-09"), at("2019-10-29"), "failed", "daily", "410", 9.5, None, None),
        (MSFT, "1m", OLD, EDGE, OLD, "cancelled", "user", None, 60.5, None, None),
    ]
    names = (
        "instrument_id",
        "timeframe",
        "lo",
        "hi",
        "cursor",
        "state",
        "asked_by",
        "error",
        "updated",
        "not_before",
        "empty_to",
    )
    return [
        {
            "id": number, **dict(zip(names, row, strict=True)), "bars": number * 100, "created": 70.5,
            "started": None if row[5] == "waiting" else 65.5,
        }
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip


def retention() -> list[Row]:
    """Minutes for a year, from a day on for ever; days for ever."""
    return [
        {"timeframe": "1m", "keep_days": 365, "kept_from": at("2019-10-20")},
        {"timeframe": "5m", "keep_days": 365, "kept_from": None},
        {"timeframe": "1d", "keep_days": None, "kept_from": None},
    ]


TABLES = (
    holes, coverage, sessions, settled, ledger, feeds, feed_batches, touched, official_1m, official_rollups,
    differences, backfills, retention,
)  # fmt: skip
