"""What the overview and a screen of many instruments cost: statements, services and whole answers.

The instruments have a day and a half of 1m bars, 15m bars of three days, 1h bars of ninety and all indicators. A goal
is a ratio: the answer of a screen whose snapshot is fresh against one that reads the database; absolute times are told,
not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.indicator_names import INDICATORS
from app.domain.screening import parse_conditions
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.overview import Overview
from app.services.screener import Screen, Screener
from app.storage import candles, catalog, screening
from bench import database

NOW_MS = 1_795_000_000_000
KEPT_MS = {Timeframe.M1: DAY_MS * 3 // 2, Timeframe.M15: 3 * DAY_MS, Timeframe.H1: 90 * DAY_MS}

CANDLES = """
INSERT INTO "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', p, p + 1, p - 1, p + 0.5, 10.00000001, 1000, 5, 7,
    t * 1000, t, (t + 59000) * 1000, t + 6, 2, 0
FROM unnest(CAST(:ids AS int[])) i, generate_series(CAST(:lo AS bigint), CAST(:hi AS bigint), :step) t,
    LATERAL (SELECT 100 + sin(t / 7e6 + i) * 5 AS p) x ORDER BY i, t
"""
VALUES = """
INSERT INTO "indicators_{tf}" (instrument_id, time, {names}) SELECT instrument_id, time, {values} FROM "candles_{tf}"
"""


def fill(engine: sa.Engine, count: int) -> None:
    """`count` active instruments with their bars."""
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE instruments SET active = false"))
        for number in range(count):
            catalog.add(conn, "binance", f"C{number}/USDT", price_decimals=2)
        ids = [item.id for item in catalog.instruments(conn, active_only=True)]
        for tf, kept_ms in KEPT_MS.items():
            hi = tf.floor(NOW_MS)
            values = {"ids": ids, "lo": hi - kept_ms, "hi": hi, "step": tf.ms}
            conn.execute(sa.text(CANDLES.replace("{tf}", tf.value)), values)
            names = ", ".join(INDICATORS)
            shown = ", ".join(f"close * {n + 1} / 10" for n in range(len(INDICATORS)))
            conn.execute(sa.text(VALUES.format(tf=tf.value, names=names, values=shown)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.text("ANALYZE"))


def timed(name: str, act: Callable[[], object], *, rounds: int) -> float:
    """The median of some rounds in ms, told."""
    act()
    took = []
    for _ in range(rounds):
        began = perf_counter()
        act()
        took.append((perf_counter() - began) * 1000)
    print(f"{name:<58}{median(took):9.2f} ms   ({min(took):.2f} to {max(took):.2f})", flush=True)
    return median(took)


def measure(engine: sa.Engine, rounds: int) -> float:
    """Tells every figure; returns how many times cheaper a screen is while its snapshot is fresh."""
    with engine.connect() as conn:
        items = catalog.instruments(conn, active_only=True)
        ids = [item.id for item in items]
        for tf in (Timeframe.M1, Timeframe.H1):
            lo_ms, hi_ms = NOW_MS - 4 * DAY_MS, NOW_MS + DAY_MS
            timed(
                f"statement: newest bars and indicators, {tf.value}",
                lambda tf=tf, lo=lo_ms, hi=hi_ms: screening.newest(conn, ids, tf, lo_ms=lo, hi_ms=hi),  # type: ignore[misc]
                rounds=rounds,
            )
    overview = Overview(engine.connect, candles, screening, now_ms=lambda: NOW_MS + MINUTE_MS)
    timed("overview: all rows", lambda: overview.rows(items, {}), rounds=rounds)
    now = [0.0]
    screener = Screener(
        engine.connect,
        screening,
        day=lambda found: overview.rows(found, {}),
        now_ms=lambda: NOW_MS,
        monotonic=lambda: now[0],
    )
    screen = Screen(Timeframe.H1, parse_conditions("rsi_14<95,close>0.1*sma_200,volume>0.5*volume_sma"))

    def cold() -> None:
        now[0] += 100
        screener.screen(items, screen)

    read = timed("screen: three conditions, read anew", cold, rounds=rounds)
    fresh = timed("screen: three conditions, snapshot fresh", lambda: screener.screen(items, screen), rounds=rounds)
    return read / fresh


def main() -> int:
    """Measures; 1 where the goal is missed."""
    parser = database.arguments(__doc__, rounds=15)
    parser.add_argument("--instruments", type=int, default=500)
    chosen = parser.parse_args()
    with database.server(chosen.url) as url, database.database(url, "screener") as engine:
        fill(engine, chosen.instruments)
        times = measure(engine, chosen.rounds)
    print(f"a fresh snapshot makes a screen {times:.0f} times cheaper; the goal is 5")
    return 0 if times >= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
