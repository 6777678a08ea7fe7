"""What indicators cost: pandas-ta on TA-Lib against TA-Lib on numpy, and a closing minute against a real PostgreSQL.

python bench/indicators.py [INSTRUMENTS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import sqlalchemy as sa

from app.config import load_settings
from app.domain.indicators import MEMORY_BARS, BarColumns, compute
from app.domain.outbox import Span
from app.domain.timeframes import Timeframe
from app.local.postgres import PostgresServer
from app.services.derive import Derive
from app.storage import indicators, migrate, outbox
from app.storage.engine import make_engine
from tests.indicator_oracle import talib_columns

START_MS = 1_700_006_400_000
HISTORY = 1_200  # bars of every timeframe

FILL = """
INSERT INTO "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, timestamptz 'epoch' + (CAST(:end AS bigint) - n * CAST(:length AS bigint)) * interval '1 millisecond',
    p, p + 1, p - 1, p, 1.5, 1.5 * p::numeric,
    0, 1, 0, 0, 0, 0, 1, 0
FROM generate_series(1, :instruments) i, generate_series(0, :bars - 1) n,
    LATERAL (SELECT 100 + 10 * sin(i + n / 9.0) AS p) prices
"""


def median_ms(run: Callable[[], object], times: int) -> float:
    """The median of `times` runs."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        taken.append((time.perf_counter() - begin) * 1000)
    return statistics.median(taken)


def arithmetic() -> None:
    """One window, and one long stretch."""
    for n, times in ((MEMORY_BARS + 1, 60), (10_000, 10)):
        close = 100 + np.cumsum(np.random.default_rng(1).normal(0, 0.1, n))
        bars = BarColumns(np.arange(n), close + 0.1, close - 0.1, close, np.abs(close))
        compute(bars)
        ours = median_ms(lambda bars=bars: compute(bars), times)  # type: ignore[misc]
        peer = median_ms(lambda bars=bars: talib_columns(bars.high, bars.low, bars.close, bars.volume), times)  # type: ignore[misc]
        print(f"{n:>6} bars, all but vwap: pandas-ta {ours:6.2f} ms   TA-Lib on numpy {peer:6.2f} ms")


def closing_minute(engine: sa.Engine, instruments: int) -> None:
    """The newest bar of all six timeframes of every instrument; then their whole history."""
    with engine.begin() as connection:
        for tf in Timeframe:
            values = {"instruments": instruments, "bars": HISTORY, "length": tf.ms, "end": tf.floor(START_MS)}
            connection.execute(sa.text(FILL.replace("{tf}", tf.value)), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    derive = Derive(engine, indicators, lambda latest: None)

    def settle(minutes: int) -> None:
        lo_ms = START_MS - (minutes - 1) * 60_000
        with engine.begin() as connection:
            outbox.mark(connection, "indicators", [Span(i + 1, lo_ms, START_MS) for i in range(instruments)])
        while derive.run(0).more:
            continue

    settle(HISTORY)
    for minutes, times in ((1, 7), (HISTORY, 2)):
        taken = median_ms(lambda minutes=minutes: settle(minutes), times)  # type: ignore[misc]
        series = instruments * len(Timeframe)
        print(f"{instruments} instruments, last {minutes} min: {taken:7.1f} ms, {taken / series:5.2f} ms a series")


def main() -> None:
    """Prints the figures."""
    arithmetic()
    with tempfile.TemporaryDirectory() as folder:
        with PostgresServer(Path(folder)) as server:
            migrate.upgrade(server.url)
            engine = make_engine(load_settings(database_url=server.url, _env_file=None), process="bench")
            closing_minute(engine, int(sys.argv[1]) if len(sys.argv) > 1 else 17)
            engine.dispose()


if __name__ == "__main__":
    main()
