"""Roll-ups by the workers against continuous aggregates: `python bench/roll_ups.py --url postgresql://… [ROUNDS]`.

The question of docs/decisions/roll-ups.md: a hundred symbols have two weeks of minutes, and history changes five days
of one of them. Subject: the statements the platform settles with, which touch the buckets of that symbol. Peer: five
continuous aggregates, each on the one below it, refreshed over the stretch; what was changed they know by time only.
Then the same for a single minute. Needs a TimescaleDB; the script makes a database of its own there and drops it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.config import load_settings
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.storage import migrate, outbox, timescale
from app.storage.engine import database_url, make_engine

SYMBOLS, DAYS = 100, 14
LATE_DAYS = range(4, 9)  # the days whose history changes
START_MS = 1_700_006_400_000 // DAY_MS * DAY_MS
NAME = "bench_roll_ups"

FILL = """INSERT INTO candles_1m (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, t, 100 + n % 7, 108, 99, 100 + n % 5, (n % 1000 + 1) / 100.0, n % 1000 + 1, n % 500, n % 300 + 1,
    n, n, n, n, 2, 1
FROM generate_series(1, :symbols) i, generate_series(CAST(:start AS timestamptz),
        CAST(:end AS timestamptz) - interval '1 minute', interval '1 minute') t,
    LATERAL (SELECT (extract(epoch FROM t)::bigint / 60 * 31 + i * 17) % 100000 AS n) x
"""
VALUES = (
    "first(open, time) AS open, max(high) AS high, min(low) AS low, last(close, time) AS close, sum(volume) AS volume,"
)
COUNTS = (
    " sum(quote_volume) AS quote_volume, sum(taker_buy_volume) AS taker_buy_volume, sum(trade_count) AS trade_count"
)


@contextmanager
def database(url: str) -> Iterator[sa.Engine]:
    """A migrated database of its own, dropped afterwards."""
    server = sa.create_engine(database_url(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
    own = server.url.set(database=NAME).render_as_string(hide_password=False)
    try:
        migrate.upgrade(own)
        settings = load_settings(database_url=own, db_statement_timeout_ms=0, _env_file=None)
        engine = make_engine(settings, process="bench")
        with engine.connect() as connection:
            if not timescale.converted(connection):
                raise SystemExit("this is a plain PostgreSQL: continuous aggregates need TimescaleDB")
        yield engine
        engine.dispose()
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {NAME} WITH (FORCE)")


def aggregates(connection: sa.Connection) -> None:
    """The five continuous aggregates, each on the one below it."""
    for tf in ROLLUPS:
        below = "candles_1m" if tf is Timeframe.M5 else f"agg_{tf.below}"
        connection.exec_driver_sql(
            f"CREATE MATERIALIZED VIEW agg_{tf} WITH (timescaledb.continuous) AS SELECT instrument_id,"
            f" time_bucket('{tf.minutes} minutes', {below}.time) AS time, {VALUES}{COUNTS}"
            f" FROM {below} GROUP BY 1, 2 WITH NO DATA"
        )


def refresh(engine: sa.Engine, lo_ms: int, hi_ms: int) -> float:
    """Seconds of refreshing all five over [lo, hi), widened to whole buckets."""
    began = time.perf_counter()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for tf in ROLLUPS:
            bounds = {"lo": _time(tf.floor(lo_ms)), "hi": _time(tf.floor(hi_ms - 1) + tf.ms)}
            connection.execute(
                sa.text(f"CALL refresh_continuous_aggregate('agg_{tf}', '{bounds['lo']}', '{bounds['hi']}')")
            )
    return time.perf_counter() - began


def roll_up(engine: sa.Engine, instrument_id: int, lo_ms: int, hi_ms: int) -> float:
    """Seconds of the platform's statements over [lo, hi) of one symbol, a transaction a day."""
    began = time.perf_counter()
    for day in range(lo_ms // DAY_MS, (hi_ms - 1) // DAY_MS + 1):
        first, last = max(lo_ms, day * DAY_MS), min(hi_ms, (day + 1) * DAY_MS)
        with engine.begin() as connection:
            for tf in ROLLUPS:
                outbox.roll_up(connection, tf, {instrument_id: range(tf.floor(first), last, tf.ms)})
    return time.perf_counter() - began


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(ms / 1000))


def _fill(engine: sa.Engine) -> None:
    values = {"symbols": SYMBOLS, "start": _time(START_MS), "end": _time(START_MS + DAYS * DAY_MS)}
    with engine.begin() as connection:
        connection.execute(sa.text(FILL), values)


def measure(engine: sa.Engine, rounds: int) -> None:
    """Fills, then changes the history of one symbol after the other; prints the medians and ratios."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        aggregates(connection)
    _fill(engine)
    lo_ms, hi_ms = (START_MS + day * DAY_MS for day in (LATE_DAYS.start, LATE_DAYS.stop))
    refresh(engine, START_MS, START_MS + DAYS * DAY_MS)
    found: dict[str, list[tuple[float, float]]] = {"five days of one symbol": [], "one late minute": []}
    for symbol in range(1, rounds + 1):
        # What history brings changes every bar of the stretch: to a time-based log it is the same as new bars.
        _touch(engine, symbol, lo_ms, hi_ms)
        worker = roll_up(engine, symbol, lo_ms, hi_ms)
        found["five days of one symbol"].append((worker, refresh(engine, lo_ms, hi_ms)))
        minute = lo_ms + symbol * 100 * MINUTE_MS
        _touch(engine, symbol, minute, minute + MINUTE_MS)
        worker = roll_up(engine, symbol, minute, minute + MINUTE_MS)
        found["one late minute"].append((worker, refresh(engine, minute, minute + MINUTE_MS)))
    _same(engine)
    for name, pairs in found.items():
        ratios = [peer / own for own, peer in pairs]
        own, peer = (median(pair[i] for pair in pairs) * 1000 for i in (0, 1))
        print(
            f"{name:24} roll-up {own:8.1f} ms, continuous aggregates {peer:8.1f} ms: {median(ratios):6.1f} x"
            f" ({min(ratios):.1f} to {max(ratios):.1f})"
        )


def _touch(engine: sa.Engine, symbol: int, lo_ms: int, hi_ms: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE candles_1m SET high = high + 1, volume = volume + 1, trade_count = trade_count + 1"
                f" WHERE instrument_id = :i AND time >= '{_time(lo_ms)}' AND time < '{_time(hi_ms)}'"
            ),
            {"i": symbol},
        )


def _same(engine: sa.Engine) -> None:
    """Both must have come to the same bars."""
    for tf in ROLLUPS:
        with engine.connect() as connection:
            differing = connection.scalar(
                sa.text(
                    f'SELECT count(*) FROM "candles_{tf}" c JOIN agg_{tf} a USING (instrument_id, time)'
                    " WHERE (c.open, c.high, c.low, c.close, c.volume, c.trade_count) <> "
                    "(a.open, a.high, a.low, a.close, a.volume, a.trade_count)"
                )
            )
            both = connection.scalar(
                sa.text(f'SELECT count(*) FROM "candles_{tf}" c JOIN agg_{tf} a USING (instrument_id, time)')
            )
        assert not differing and both, f"{tf}: {differing} of {both} bars differ"


def main() -> None:
    """Measures on the server given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--url", required=True, help="a TimescaleDB server, with the right to make databases")
    given = parser.parse_args()
    with database(given.url) as engine:
        measure(engine, given.rounds)


if __name__ == "__main__":
    main()
