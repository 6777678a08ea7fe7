"""What must not grow with the table: `python bench/growth.py [--url postgresql://…] [--rounds N] [--rows 10000000]`.

Databases of 10^5 rows, ten times as many and so on up to --rows, side by side on one server: 19 symbols, their minutes
in the order in which live bars come, every timeframe and the indicators of 1m filled. 10^7 rows of 1m take 7 GB while
the script runs (19 symbols are then a year). Measured in turn: the roll-up of changed minutes to all timeframes as
app/services/settle.py does it, an hour of one symbol, ten hours, a month, and once a year; and reading 1,000 bars with
their indicators as app/services/charts.py does it, the newest ones and others.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import DAY_MS, MINUTE_MS, ROLLUPS, Timeframe
from app.storage import candles, indicators, outbox
from bench.database import arguments, database, kind, run, server, utc
from bench.judged import Goal, in_turn, judge

SYMBOLS, SMALLEST, BARS = 19, 10**5, 1000
END_MS = 1_700_006_400_000 // DAY_MS * DAY_MS
HOUR, TEN_HOURS, MONTH = 60, 600, 30 * 1440

SERIES = """FROM generate_series(timestamptz '{lo}', timestamptz '{hi}' - interval '{step}', interval '{step}') t,
    generate_series(1, {symbols}) i,
    LATERAL (SELECT (extract(epoch FROM t)::bigint / 60 * 31 + i * 17) % 100000 AS n) x"""
FILL = """INSERT INTO "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, t, 100 + n % 7, 108, 99, 100 + n % 5, (n % 1000 + 1) / 100.0, n % 1000 + 1, n % 500, n % 300 + 1, n, n, n, n,
    2, 2 """
FILL_INDICATORS = f"INSERT INTO indicators_1m (instrument_id, time, {', '.join(INDICATORS)}) SELECT i, t, " + ", ".join(
    f"sin(n + {place})" for place in range(len(INDICATORS))
)
TOUCH = "UPDATE candles_1m SET volume = volume + 1 WHERE instrument_id = {} AND time >= '{}' AND time < '{}'"


def fill(engine: sa.Engine, rows: int) -> None:
    """All timeframes up to END_MS, so that candles_1m gets `rows` rows."""
    lo_ms = END_MS - rows // SYMBOLS * MINUTE_MS
    for tf in Timeframe:
        series = SERIES.format(lo=utc(tf.floor(lo_ms)), hi=utc(END_MS), step=f"{tf.minutes} min", symbols=SYMBOLS)
        run(engine, FILL.replace("{tf}", tf) + series)
        if tf is Timeframe.M1:
            run(engine, FILL_INDICATORS + " " + series)
    run(engine, "VACUUM (ANALYZE)")


def roll_up(engine: sa.Engine, minutes: int, turn: int) -> float:
    """Changes the newest minutes of a symbol; returns the seconds their roll-ups take, for an hour's worth."""
    symbol, lo_ms = turn % SYMBOLS + 1, END_MS - minutes * MINUTE_MS
    run(engine, TOUCH.format(symbol, utc(lo_ms), utc(END_MS)))
    return settle(engine, symbol, lo_ms)


def settle(engine: sa.Engine, symbol: int, lo_ms: int) -> float:
    """The statements of app/services/settle.py over [lo, END_MS) of a symbol; returns the seconds."""
    began = time.perf_counter()
    with engine.begin() as connection:
        for tf in ROLLUPS:
            changed = outbox.roll_up(connection, tf, {symbol: range(tf.floor(lo_ms), END_MS, tf.ms)})
            assert changed, tf
    return time.perf_counter() - began


def read(engine: sa.Engine, oldest_ms: int, turn: int, *, newest: bool) -> None:
    """A chart's bars and indicators: the newest of a symbol, or those before a time that the turn decides."""
    chance = random.Random(turn)
    symbol, span_ms = turn % SYMBOLS + 1, END_MS - oldest_ms - BARS * MINUTE_MS
    end_ms = None if newest else END_MS - chance.randrange(span_ms // MINUTE_MS) * MINUTE_MS
    with engine.connect() as connection:
        bars = candles.read(connection, symbol, Timeframe.M1, end_ms=end_ms, limit=BARS)
        lo_ms, hi_ms = bars[0].time_ms, bars[-1].time_ms + MINUTE_MS
        rows = indicators.read(connection, symbol, Timeframe.M1, start_ms=lo_ms, end_ms=hi_ms)
    assert len(bars) == len(rows) == BARS


def size(rows: int) -> str:
    """10^n, as text."""
    return f"10^{len(str(rows)) - 1} rows"


def linear(engine: sa.Engine, rounds: int) -> bool:
    """The cost of a changed minute, few or many at once, in the largest table."""
    ways: dict[str, Callable[[int], float]] = {
        f"{minutes:,} minutes": lambda turn, minutes=minutes: roll_up(engine, minutes, turn) * HOUR / minutes
        for minutes in (HOUR, TEN_HOURS, MONTH)
    }
    goals = [
        Goal(f"{many:,} minutes", f"{few:,} minutes", 1.2, most=True)
        for few, many in ((HOUR, TEN_HOURS), (TEN_HOURS, MONTH))
    ]
    return judge("Roll-ups, for each 60 of the minutes changed at once", lambda: in_turn(ways, rounds), goals)


def year(engine: sa.Engine, minutes: int) -> bool:
    """All minutes of a symbol at once, one statement a timeframe, each into nothing; a month's as often as a year's."""

    def all_of(symbol: int, minutes: int) -> float:
        lo_ms = END_MS - minutes * MINUTE_MS
        for tf in ROLLUPS:
            run(
                engine,
                f"DELETE FROM \"candles_{tf}\" WHERE instrument_id = {symbol} AND time >= '{utc(tf.floor(lo_ms))}'",
            )
        return settle(engine, symbol, lo_ms) * MONTH / minutes

    found = in_turn(
        {"a month": lambda turn: all_of(turn + 1, MONTH), "a year": lambda turn: all_of(turn + 1, minutes)}, 2
    )
    whole = min(found["a year"]) * minutes / MONTH
    print(
        f"\n{minutes:,} minutes of one symbol, all timeframes: {whole:.1f} s, {whole / minutes * 1e6:.0f} µs a minute"
    )
    return judge("The same for each month of them", lambda: found, [Goal("a year", "a month", 1.2, most=True)])


def growth(engines: dict[int, sa.Engine], rounds: int) -> bool:
    """The same work in small tables and in large ones."""
    small, large = size(min(engines)), size(max(engines))
    oldest = {rows: END_MS - rows // SYMBOLS * MINUTE_MS for rows in engines}
    cases: dict[str, Callable[[int], Callable[[int], float | None]]] = {
        "An hour of a symbol changed, rolled up": lambda rows: partial(roll_up, engines[rows], HOUR),
        "The newest 1,000 bars with indicators": lambda rows: partial(read, engines[rows], oldest[rows], newest=True),
        "1,000 bars from anywhere with indicators": lambda rows: partial(
            read, engines[rows], oldest[rows], newest=False
        ),
    }
    met = True
    for title, way in cases.items():
        ways = {size(rows): way(rows) for rows in engines}
        met &= judge(title, partial(in_turn, ways, rounds), [Goal(large, small, 1.5, most=True)])
    return met


def main() -> int:
    """Fills, then measures."""
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--rows", type=int, default=10**7, help="rows of the largest table (10000000)")
    given = parser.parse_args()
    sizes = [rows for power in range(5, 10) if (rows := 10**power) <= given.rows]
    with server(given.url) as url, ExitStack() as stack:
        engines = {rows: stack.enter_context(database(url, f"growth_{rows}")) for rows in sizes}
        print(kind(engines[SMALLEST]))
        for rows, engine in engines.items():
            began = time.perf_counter()
            fill(engine, rows)
            print(f"{size(rows)} filled in {time.perf_counter() - began:.0f} s", flush=True)
        largest = engines[sizes[-1]]
        met = growth(engines, given.rounds) & linear(largest, given.rounds)
        if sizes[-1] // SYMBOLS > 365 * 1440:
            met &= year(largest, 365 * 1440)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
