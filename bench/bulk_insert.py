"""New bars in bulk, idempotently: `python bench/bulk_insert.py [--url postgresql://…] [--rounds N]`.

Subject: app.storage.bulk.replace, the columns of a page and nothing else given. Limit: COPY of ready text into a table
without an index. Peer: execute_values with ON CONFLICT DO UPDATE, ready tuples given. 10,000 bars of one symbol, and of
ten symbols; a week of minutes, and spread over 50 weeks. Other bars stand in all chunks before; each round brings
symbols of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.bar_columns import BarColumns
from app.domain.timeframes import DAY_MS, MINUTE_MS
from app.storage import bulk
from bench import peers
from bench.database import arguments, database, kind, run, server, utc
from bench.judged import Goal, Seconds, in_turn, judge
from bench.series import walk

ROWS, WEEKS = 10_000, 50
START_MS = 1_700_000_000_000 // (7 * DAY_MS) * 7 * DAY_MS  # where a chunk of a week begins
SEED = f"""INSERT INTO candles_1m ({peers.NAMES}) SELECT 1, t, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 1
FROM generate_series(timestamptz '{{}}', timestamptz '{{}}', interval '1 hour') t"""

OURS, PEER, LIMIT = "bulk.replace", "execute_values", "COPY without an index"
GOALS = (Goal(OURS, LIMIT, 0.2), Goal(OURS, PEER, 5))


def ways(engine: sa.Engine, symbols: int, step: int) -> dict[str, Callable[[int], None]]:
    """The three ways to store the bars of so many symbols, `step` minutes from bar to bar."""
    pages = [walk(0, START_MS, ROWS, step_ms=step * MINUTE_MS, seed=seed) for seed in range(symbols)]
    rows = [row for page in pages for row in peers.tuples(page)]
    body = peers.copy_text(rows)
    ids = count(engine_ids(engine) + 1)

    def ours(_: int) -> None:
        with engine.begin() as connection:
            for page, own in zip(pages, ids, strict=False):
                columns = BarColumns(own, *(getattr(page, name) for name in BarColumns.__slots__[1:]))
                assert len(bulk.replace(connection, columns)) == ROWS

    def values(_: int) -> None:
        own = [next(ids) for _ in pages]
        peers.by_execute_values(engine, [(own[place // ROWS], *row[1:]) for place, row in enumerate(rows)])

    def limit(_: int) -> None:
        peers.by_bare_copy(engine, body)

    return {OURS: ours, PEER: values, LIMIT: limit}


def engine_ids(engine: sa.Engine) -> int:
    """The greatest instrument id in use."""
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT max(instrument_id) FROM candles_1m")).scalar_one())


def measure(engine: sa.Engine, symbols: int, step: int, rounds: int) -> Seconds:
    """One case."""
    run(engine, "TRUNCATE bare")
    found = in_turn(ways(engine, symbols, step), rounds)
    run(engine, "CHECKPOINT")
    return found


def main() -> int:
    """Measures all four cases."""
    given = arguments(__doc__).parse_args()
    with server(given.url) as url, database(url, "bulk") as engine:
        print(kind(engine))
        first, last = (utc(ms) for ms in (START_MS, START_MS + WEEKS * 7 * DAY_MS - 1))
        run(engine, SEED.format(first, last))
        run(engine, peers.UNINDEXED)
        met = True
        for symbols in (1, 10):
            for name, step in (("one week", 1), (f"{WEEKS} weeks", WEEKS)):
                title = f"{symbols * ROWS:,} new bars of {symbols} symbols over {name}"
                met &= judge(
                    title, lambda s=symbols, m=step: measure(engine, s, m, given.rounds), GOALS, rows=symbols * ROWS
                )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
