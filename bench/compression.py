"""Compressed bars: `python bench/compression.py --url postgresql://… [--rounds N] [--columns] [--indicators]`.

Needs a TimescaleDB. A month of minutes of 50 symbols (bench/recorded.py says of what) as the platform's own live bars,
and as history: what a chunk takes before and after. Then, of the live ones, 1,000 bars by app.storage.candles.read, as
a chart asks for them, compressed against not; and app.storage.bulk.replace in a compressed chunk against one that is
not: the exchange's own word on 1,000 bars of a symbol, which must leave the other symbols' bars compressed, and 10,000
bars of a symbol that has none there. --columns: what each column costs. All goals but the ratio are met; why it is not,
and what would change that: docs/decisions/writing-bars.md.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.bar_columns import BarColumns
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import bulk, candles
from bench.database import arguments, database, kind, run, server
from bench.judged import Goal, in_turn, judge
from bench.peers import NAMES
from bench.recorded import MINUTES, SYMBOLS, Source, history, live, sources
from bench.series import walk

BARS, LEAST_RATIO = 1000, 8
START_MS = 1_700_000_000_000 // (7 * DAY_MS) * 7 * DAY_MS  # where a chunk begins
SIZES = """SELECT before_compression_total_bytes, after_compression_total_bytes, before_compression_index_bytes,
    after_compression_index_bytes FROM hypertable_columnstore_stats('{}')"""
PACKED = """SELECT c.schema_name || '.' || c.table_name FROM _timescaledb_catalog.chunk u
    JOIN _timescaledb_catalog.chunk c ON c.id = u.compressed_chunk_id
    JOIN _timescaledb_catalog.hypertable h ON h.id = u.hypertable_id WHERE h.table_name = '{}' ORDER BY 1"""
CHUNKS = """SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
    WHERE hypertable_name = 'candles_1m' ORDER BY range_start"""
COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0"
COUNTS = "SELECT instrument_id, sum(_ts_meta_count) FROM {} GROUP BY 1"


class Lines:
    """A file of what an iterator gives, for COPY."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def read(self, _: int) -> bytes:
        """Some lines, nothing at the end."""
        return "".join([line for line, _ in zip(self._lines, range(500), strict=False)]).encode()


def load(engine: sa.Engine, lines: Callable[[Source, int, int], Iterator[str]], found: list[Source]) -> None:
    """All symbols' months, minute by minute as live bars come."""
    months = [lines(found[symbol % len(found)], symbol, START_MS) for symbol in range(1, SYMBOLS + 1)]
    rows = Lines(chain.from_iterable(zip(*months, strict=True)))
    with engine.begin() as connection, connection.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY candles_1m ({NAMES}, updated) FROM STDIN", rows)
    run(engine, "VACUUM (ANALYZE) candles_1m")


def compress(engine: sa.Engine, chunks: list[str]) -> None:
    """Compresses these chunks."""
    for chunk in chunks:
        run(engine, f"SELECT compress_chunk('{chunk}')")
    run(engine, "VACUUM (ANALYZE) candles_1m")


def query(engine: sa.Engine, statement: str) -> list[sa.Row]:
    """The rows of a statement."""
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement)))


def chunks(engine: sa.Engine) -> list[str]:
    """The chunks of candles_1m, oldest first."""
    return [str(row[0]) for row in query(engine, CHUNKS)]


def ratio(engine: sa.Engine, title: str) -> bool:
    """Prints what the chunks took before and take now."""
    before, after, index_before, index_after = query(engine, SIZES.format("candles_1m"))[0]
    rows = SYMBOLS * MINUTES
    met = before / after >= LEAST_RATIO
    print(
        f"\n{title}: {before / rows:.0f} bytes a bar ({index_before / rows:.0f} of them indexes), "
        f"{after / rows:.1f} compressed ({index_after / rows:.1f})\n"
        f"  {'met' if met else 'MISSED':6} {before / after:.1f} times as small, at least {LEAST_RATIO}",
        flush=True,
    )
    return met


def columns(engine: sa.Engine) -> None:
    """Bytes a bar of each column, compressed, with the method TimescaleDB chose most often."""
    tables = [str(row[0]) for row in query(engine, PACKED.format("candles_1m"))]
    names = [row[0] for row in query(engine, COLUMNS.format(tables[0]))]
    for name in names:
        union = " UNION ALL ".join(f'SELECT "{name}" AS c, _ts_meta_count AS n FROM {table}' for table in tables)
        used = query(engine, f"SELECT sum(pg_column_size(c)) / sum(n)::float8 FROM ({union}) x")[0][0]
        print(f"  {name:24} {used or 0:6.2f} bytes a bar")


def read(engine: sa.Engine, lo_ms: int, turn: int) -> None:
    """1,000 bars of a symbol from somewhere in the week, by turn."""
    end_ms = lo_ms + random.Random(turn).randrange(BARS, 10 * BARS) * MINUTE_MS
    with engine.connect() as connection:
        bars = candles.read(connection, turn % SYMBOLS + 1, Timeframe.M1, end_ms=end_ms, limit=BARS)
    assert len(bars) == BARS


def correct(engine: sa.Engine, lo_ms: int, turn: int) -> float:
    """The exchange's own word on 1,000 bars of a symbol; returns the seconds."""
    symbol, start_ms = turn % SYMBOLS + 1, lo_ms + (turn % 9) * BARS * MINUTE_MS
    with engine.connect() as connection:
        bars = candles.read(connection, symbol, Timeframe.M1, end_ms=start_ms + BARS * MINUTE_MS, limit=BARS)
    page = BarColumns.of(symbol, bars)
    page.high[:] = [f"{float(high) + 1:.8f}" for high in page.high]
    began = time.perf_counter()
    with engine.begin() as connection:
        assert len(bulk.replace(connection, page)) == BARS
    return time.perf_counter() - began


def backfill(engine: sa.Engine, lo_ms: int, turn: int) -> float:
    """10,000 bars of a symbol that has none there; returns the seconds."""
    page = walk(1000 + turn, lo_ms, 10 * BARS, step_ms=MINUTE_MS, seed=turn)
    began = time.perf_counter()
    with engine.begin() as connection:
        assert len(bulk.replace(connection, page)) == 10 * BARS
    return time.perf_counter() - began


def packed(engine: sa.Engine) -> dict[int, int]:
    """Instrument → how many of its bars are compressed."""
    found: dict[int, int] = {}
    for (table,) in query(engine, PACKED.format("candles_1m")):
        for instrument_id, bars in query(engine, COUNTS.format(table)):
            found[instrument_id] = found.get(instrument_id, 0) + int(bars)
    return found


def alone(engine: sa.Engine, lo_ms: int) -> bool:
    """Whether a correction takes only its own symbol's bars out of their batches, and no more than it must."""
    before, symbol = packed(engine), 20
    correct(engine, lo_ms, symbol - 1)
    after = packed(engine)
    changed = {i: before[i] - after.get(i, 0) for i in before if before[i] != after.get(i, 0)}
    met = set(changed) == {symbol}
    print(
        f"\nOf a correction of symbol {symbol} {'met' if met else 'MISSED'}: bars taken out of their batches {changed}"
    )
    return met


def both(
    title: str,
    way: Callable[[int], Callable[[int], float | None]],
    weeks: tuple[int, int],
    rounds: int,
    most: float | None = None,
) -> bool:
    """A way in a compressed week against the same in one that is not; without `most` only to look at."""
    goals = [] if most is None else [Goal("compressed", "not compressed", most, most=True)]
    ways = dict(zip(("compressed", "not compressed"), map(way, weeks), strict=True))
    return judge(title, lambda: in_turn(ways, rounds), goals)


def main() -> int:
    """Loads, compresses, measures."""
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--columns", action="store_true", help="what each column costs")
    given = parser.parse_args()
    if given.url is None:
        parser.error("--url of a TimescaleDB is needed: plain PostgreSQL does not compress")
    found = sources()
    with server(given.url) as url:
        with database(url, "compression") as engine:
            print(kind(engine), flush=True)
            load(engine, live, found)
            compress(engine, chunks(engine))
            met = ratio(engine, "Live bars")
            if given.columns:
                columns(engine)
            run(engine, f"SELECT decompress_chunk('{chunks(engine)[3]}')")
            run(engine, "VACUUM (ANALYZE) candles_1m")
            weeks = (START_MS + 7 * DAY_MS, START_MS + 21 * DAY_MS)
            met &= both("1,000 bars of a symbol, read", lambda lo: partial(read, engine, lo), weeks, given.rounds, 2)
            both("1,000 bars of a symbol, corrected", lambda lo: partial(correct, engine, lo), weeks, given.rounds)
            both("10,000 bars of a new symbol", lambda lo: partial(backfill, engine, lo), weeks, given.rounds)
            met &= alone(engine, START_MS)
        with database(url, "compression") as engine:
            load(engine, history, found)
            compress(engine, chunks(engine))
            met &= ratio(engine, "History")
            if given.columns:
                columns(engine)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
