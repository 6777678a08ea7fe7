"""The merge of live bars: `python bench/merge.py [--url postgresql://…] [--rounds N] [--forms]`.

Subject: app.storage.candles.merge of 1,000 minutes, once where they are new, once where they stand and are added to.
Peer: execute_values with the same ON CONFLICT clause and the same RETURNING. With --forms also what else could carry
the rows, for 20 to 5,000 of them: COPY (text, binary) into a temporary table, and INSERT … SELECT from it.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from psycopg2.extras import execute_values

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.bars import PartialBar
from app.domain.timeframes import MINUTE_MS
from app.storage import candles
from app.storage.sql import sql
from bench.database import arguments, database, kind, server
from bench.judged import Goal, Seconds, in_turn, judge

START_MS, ROWS, FORMS = 1_700_000_040_000, 1000, (20, 200, 1000, 5000)
OURS, PEER, TEXT, BINARY = "candles.merge", "execute_values", "COPY text", "COPY binary"
GOALS = (Goal(OURS, PEER, 2.2),)

MERGE = sql("candles", "merge").text
HEAD, CLAUSE = MERGE[: MERGE.index("SELECT")], MERGE[MERGE.index("ON CONFLICT") :]
VALUES = f"{HEAD} VALUES %s {CLAUSE}"
TEMPLATE = "(%s, timestamptz 'epoch' + %s * interval '1 millisecond'" + ", %s" * 12 + ", 0, 0)"
STAGE = """CREATE TEMP TABLE IF NOT EXISTS stage (i int, t bigint, o float8, h float8, l float8, c float8, v numeric,
    q numeric, k numeric, n bigint, ot bigint, os bigint, ct bigint, cs bigint) ON COMMIT DELETE ROWS"""
STAGED = f"""{HEAD} SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', o, h, l, c, v, q, k, n, ot, os, ct,
    cs, 0, 0 FROM stage ORDER BY i, t {CLAUSE}"""

type Parts = Sequence[PartialBar]
type Way = Callable[[sa.Connection, Parts], int]  # returns how many bars came back


def minute(place: int, rows: int) -> list[PartialBar]:
    """What the trades of a moment say of one minute of so many instruments."""
    chance, start_ms = random.Random(place), START_MS + place * MINUTE_MS
    found = []
    for instrument_id in range(1, rows + 1):
        price, size = round(chance.uniform(100, 65_000), 2), Decimal(chance.randrange(1, 10**10)).scaleb(-8)
        first, last = start_ms * 1000 + chance.randrange(30_000_000), start_ms * 1000 + 30_000_000
        seq, trades = chance.randrange(10**9), chance.randrange(1, 99)
        sums = (size, size * 65_000, size / 2)
        edges = (first, seq, last, seq + trades)
        found.append(
            PartialBar(instrument_id, start_ms, price, price + 1.25, price - 0.75, price, *sums, trades, *edges)
        )
    return found


def by_merge(connection: sa.Connection, parts: Parts) -> int:
    """The subject: the bars come back as the platform's own."""
    return len(candles.merge(connection, parts).bars)


def by_values(connection: sa.Connection, parts: Parts) -> int:
    """The peer: the bars come back as tuples."""
    with connection.connection.cursor() as cursor:
        return len(execute_values(cursor, VALUES, parts, template=TEMPLATE, page_size=ROWS, fetch=True))


def by_text(connection: sa.Connection, parts: Parts) -> int:
    """COPY of text, then one statement."""
    body = "".join(["\t".join(map(str, part)) + "\n" for part in parts]).encode()
    return _staged(connection, "COPY stage FROM STDIN", body)


def by_binary(connection: sa.Connection, parts: Parts) -> int:
    """COPY of PostgreSQL's own format, then one statement."""
    body = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
    for part in parts:
        sums = (_numeric(value) for value in part[6:9])
        body.append(struct.pack(">hii" + "iq" + "id" * 4, 14, 4, part[0], *_sized(part[1:6])))
        body += [struct.pack(">i", len(value)) + value for value in sums]
        body.append(struct.pack(">" + "iq" * 5, *_sized(part[9:])))
    return _staged(connection, "COPY stage FROM STDIN (FORMAT binary)", b"".join([*body, b"\xff\xff"]))


def _sized(values: Sequence[object]) -> list[object]:
    """The values, each after its length of 8 bytes."""
    return [field for value in values for field in (8, value)]


def _staged(connection: sa.Connection, copy: str, body: bytes) -> int:
    with connection.connection.cursor() as cursor:
        cursor.copy_expert(copy, io.BytesIO(body), 1 << 16)
        cursor.execute(STAGED)
        return len([candles.as_bar(row) for row in cursor])


def _numeric(value: Decimal) -> bytes:
    """A positive NUMERIC as it travels: groups of four decimal digits."""
    scale = max(-int(value.as_tuple().exponent), 0)
    pad, groups = -scale % 4, []
    whole = int(value.scaleb(scale + pad))
    while whole:
        whole, group = divmod(whole, 10_000)
        groups.append(group)
    weight = len(groups) - (scale + pad) // 4 - 1
    return struct.pack(f">HhHH{len(groups)}H", len(groups), weight, 0, scale, *reversed(groups))


def measure(engine: sa.Engine, ways: dict[str, Way], parts: Iterator[Parts], *, again: bool, rounds: int) -> Seconds:
    """Each way a minute of its own in each round; `again`: one that stands already."""
    with engine.connect() as connection:
        connection.execute(sa.text(STAGE))
        connection.commit()

        def once(way: Way, rows: Parts) -> None:
            with connection.begin():
                assert way(connection, rows) == len(rows)

        def timed(way: Way) -> float:
            rows = next(parts)
            if again:
                once(way, rows)
            began = time.perf_counter()
            once(way, rows)
            return time.perf_counter() - began

        return in_turn({name: lambda _, way=way: timed(way) for name, way in ways.items()}, rounds)


def main() -> int:
    """Measures the goal, or all forms."""
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--forms", action="store_true", help="also what else could carry the rows, not judged")
    given = parser.parse_args()
    forms = {OURS: by_merge, PEER: by_values, TEXT: by_text, BINARY: by_binary}
    met, places = True, count()
    with server(given.url) as url, database(url, "merge") as engine:
        print(kind(engine))
        for rows in FORMS if given.forms else (ROWS,):
            goals = GOALS if rows == ROWS else ()
            for name, again in (("new", False), ("standing", True)):
                parts = (minute(place, rows) for place in places)
                ways = forms if given.forms else {OURS: by_merge, PEER: by_values}
                met &= judge(
                    f"{rows:,} {name} minutes",
                    lambda ways=ways, parts=parts, again=again: measure(
                        engine, ways, parts, again=again, rounds=given.rounds
                    ),
                    goals,
                    rows=rows,
                )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
