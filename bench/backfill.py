"""History into the database: `python bench/backfill.py [--url postgresql://…] [--rounds N] [--pages N]`.

From the bytes of klines pages (1,000 bars each) to committed rows, idempotently. Subject: columns and COPY, as the
platform stores a page, into an empty stretch and over the same bars again. Peer: orjson and execute_values, as it comes
(100 rows a statement) and with the whole page in one; beside them candles.replace, bar objects and one statement.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path

import orjson
import sqlalchemy as sa
from psycopg2.extras import execute_values

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.storage import bulk, candles
from app.wire.binance_history import parse_klines
from app.wire.binance_klines import parse_columns
from bench.database import arguments, database, kind, run, server
from bench.judged import Goal, Seconds, in_turn, judge
from bench.peers import UPSERT
from bench.series import units

START_MS, ROWS = 1_700_000_040_000 // 60_000 * 60_000, 1000
TEMPLATE = "(%s, timestamptz 'epoch' + %s * interval '1 millisecond'" + ", %s" * 14 + ")"
OURS, PEER = "bulk.replace", "execute_values"


def pages(number: int) -> list[bytes]:
    """Answers of GET /api/v3/klines, as bytes."""
    chance, price = random.Random(7), 6_500_000_000_000
    found = []
    for page in range(number):
        rows = []
        for row in range(ROWS):
            time_ms, open_ = START_MS + (page * ROWS + row) * 60_000, price
            price += chance.randrange(-(10**9), 10**9)
            high, low = max(open_, price) + chance.randrange(10**8), min(open_, price) - chance.randrange(10**8)
            size = chance.randrange(10**8, 10**11)
            rows.append(
                [time_ms, *map(units, (open_, high, low, price, size)), time_ms + 59_999, units(size * 65_000),
                 chance.randrange(1, 5000), units(size // 2), units(size * 32_500), "0"]
            )  # fmt: skip
        found.append(json.dumps(rows).encode())
    return found


def by_execute_values(engine: sa.Engine, page: bytes, instrument_id: int, *, page_size: int) -> None:
    """The peer: the rows of the page as tuples, execute_values, an upsert."""
    rows = [
        (instrument_id, row[0], *map(float, row[1:5]), Decimal(row[5]), Decimal(row[7]), Decimal(row[9]), row[8],
         row[0] * 1000, 0, row[6] * 1000 + 999, 0, 2, 1)
        for row in orjson.loads(page)
    ]  # fmt: skip
    with engine.begin() as connection, connection.connection.cursor() as cursor:
        execute_values(cursor, UPSERT, rows, template=TEMPLATE, page_size=page_size)


def by_replace(engine: sa.Engine, page: bytes, instrument_id: int) -> None:
    """Bar objects and the statement of candles.replace."""
    bars = parse_klines(orjson.loads(page), instrument_id)
    with engine.begin() as connection:
        candles.replace(connection, bars)


def by_bulk(engine: sa.Engine, page: bytes, instrument_id: int) -> None:
    """The subject."""
    columns = parse_columns(orjson.loads(page), instrument_id)
    with engine.begin() as connection:
        bulk.replace(connection, columns)


type Way = Callable[[sa.Engine, bytes, int], None]

WAYS: dict[str, Way] = {
    OURS: by_bulk,
    PEER: partial(by_execute_values, page_size=100),
    "execute_values, one statement": partial(by_execute_values, page_size=ROWS),
    "candles.replace": by_replace,
}


def measure(engine: sa.Engine, bodies: list[bytes], rounds: int, *, again: bool) -> Seconds:
    """All pages by each way, each round and way with an instrument of its own, or all with the same once more."""
    run(engine, "TRUNCATE candles_1m")
    ids = count(len(WAYS) + 1)

    def store(way: Way, place: int, _: int) -> None:
        own = place if again else next(ids)
        for body in bodies:
            way(engine, body, own)

    return in_turn({name: partial(store, way, place) for place, (name, way) in enumerate(WAYS.items(), 1)}, rounds)


def main() -> int:
    """Measures both cases."""
    parser = arguments(__doc__)
    parser.add_argument("--pages", type=int, default=10, help="pages of 1,000 bars (10)")
    given = parser.parse_args()
    bodies = pages(given.pages)
    with server(given.url) as url, database(url, "backfill") as engine:
        print(kind(engine))
        new = judge(
            f"{given.pages} pages of klines, new",
            lambda: measure(engine, bodies, given.rounds, again=False),
            [Goal(OURS, PEER, 4)],
            rows=given.pages * ROWS,
        )
        same = judge(
            f"{given.pages} pages of klines, all there",
            lambda: measure(engine, bodies, given.rounds, again=True),
            [Goal(OURS, PEER, 2.5)],
            rows=given.pages * ROWS,
        )
    return 0 if new and same else 1


if __name__ == "__main__":
    sys.exit(main())
