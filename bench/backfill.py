"""History into the database, alternating in one run: `python bench/backfill.py [PAGES] [ROUNDS]`.

From the bytes of a klines page (1,000 bars) to committed rows, idempotently. Peer: psycopg2's execute_values, as it
comes (100 rows a statement) and with the whole page in one statement; beside them candles.replace, bar objects and
one statement. Subject: columns and COPY, into an empty stretch, and over the same bars again (all there already).
The embedded PostgreSQL serves them, with durability off, so that the disk of the machine has no word in it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median

import orjson
import sqlalchemy as sa
from psycopg2.extras import execute_values

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.config import load_settings
from app.local.postgres import PostgresServer
from app.storage import bulk, candles, migrate
from app.storage.engine import make_engine
from app.wire.binance_history import parse_klines
from app.wire.binance_klines import parse_columns

START_MS, ROWS = 1_700_000_040_000 // 60_000 * 60_000, 1000
NAMES = (
    "instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count, open_time, "
    "open_seq, close_time, close_seq, state, origin"
)
UPSERT = f"""INSERT INTO candles_1m ({NAMES}) VALUES %s ON CONFLICT (instrument_id, time) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
    quote_volume = excluded.quote_volume, taker_buy_volume = excluded.taker_buy_volume,
    trade_count = excluded.trade_count, state = 2"""
TEMPLATE = "(%s, timestamptz 'epoch' + %s * interval '1 millisecond'" + ", %s" * 14 + ")"


def pages(count: int) -> list[bytes]:
    """Answers of GET /api/v3/klines, as bytes."""
    chance, price = random.Random(7), 6_500_000_000_000
    found = []
    for page in range(count):
        rows = []
        for row in range(ROWS):
            time_ms, open_ = START_MS + (page * ROWS + row) * 60_000, price
            price += chance.randrange(-(10**9), 10**9)
            high, low = max(open_, price) + chance.randrange(10**8), min(open_, price) - chance.randrange(10**8)
            size = chance.randrange(10**8, 10**11)
            rows.append(
                [time_ms, *map(_text, (open_, high, low, price, size)), time_ms + 59_999, _text(size * 65_000),
                 chance.randrange(1, 5000), _text(size // 2), _text(size * 32_500), "0"]
            )  # fmt: skip
        found.append(json.dumps(rows).encode())
    return found


def _text(units: int) -> str:
    return f"{units // 10**8}.{units % 10**8:08d}"


def by_execute_values(engine: sa.Engine, page: bytes, instrument_id: int, page_size: int) -> None:
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
    "execute_values": lambda engine, page, i: by_execute_values(engine, page, i, 100),
    "execute_values, one statement": lambda engine, page, i: by_execute_values(engine, page, i, ROWS),
    "candles.replace": by_replace,
    "bulk.replace": by_bulk,
}


def rates(engine: sa.Engine, bodies: list[bytes]) -> dict[str, float]:
    """Bars a second of each way, page by page in turn, each with an instrument of its own; then all of it again."""
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE candles_1m"))
    found: dict[str, float] = {}
    for suffix in ("", ", again"):
        seconds = dict.fromkeys(WAYS, 0.0)
        for body in bodies:
            for instrument_id, (name, way) in enumerate(WAYS.items(), 1):
                began = time.perf_counter()
                way(engine, body, instrument_id)
                seconds[name] += time.perf_counter() - began
        found |= {f"{name}{suffix}": len(bodies) * ROWS / took for name, took in seconds.items()}
    with engine.begin() as connection:
        stored = connection.scalar(sa.text("SELECT count(*) FROM candles_1m WHERE state = 2"))
    assert stored == len(bodies) * ROWS * len(WAYS)
    return found


def measure(engine: sa.Engine, bodies: list[bytes], rounds: int) -> None:
    """Prints the rates, and each way's ratio to the peer round by round; a first round warms up."""
    all_rounds = [rates(engine, bodies) for _ in range(rounds + 1)][1:]
    for name in all_rounds[0]:
        peer = "execute_values, again" if name.endswith("again") else "execute_values"
        ratios = [found[name] / found[peer] for found in all_rounds]
        print(
            f"{name:37} {median(found[name] for found in all_rounds):9,.0f} bars/s   {median(ratios):5.2f} x "
            f"execute_values ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> None:
    """Starts a PostgreSQL of its own and measures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder))
        server.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off"}
        server.start()
        try:
            migrate.upgrade(server.url)
            engine = make_engine(load_settings(database_url=server.url, _env_file=None), process="bench")
            measure(engine, pages(count), rounds)
            engine.dispose()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
