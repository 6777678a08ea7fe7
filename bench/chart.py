"""A chart of 1,000 bars with all indicators: `python bench/chart.py [--rounds N] [--requests N]`.

From the cache: requests a second against the hello of the same server (/api/health/live), over one connection each,
rate limits off; the chart once as it stands, and once while its symbol trades ten times a second, so that what is
remembered is void as often. Cold: the service's own reading and encoding up to the answer (Redis gets its copy
afterwards), against one join of the two tables and json.dumps.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.bootstrap import platform
from app.cache import keys, pubsub
from app.config import load_settings
from app.domain.indicator_names import INDICATORS
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.services.charts import ChartRequest
from app.storage import catalog
from bench.database import arguments, stores
from bench.fanout import bar
from bench.judged import Goal, in_turn, judge
from tests.integration.web_server import web_server
from webapp.composition import Web, compose

BARS, START_MS = 1000, 1_790_000_040_000
CHART, HELLO = "/api/charts/BTC-USDT?timeframe=1m&limit=1000", "/api/health/live"
CACHED, TRADED = "cached chart", "cached chart of a symbol that trades"
SERVICE, JOIN = "cold chart", "join and json.dumps"

CANDLES = """
INSERT INTO candles_1m (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT :id, timestamptz 'epoch' + t * interval '1 millisecond', round(p::numeric, 2), round(p::numeric, 2) + 1.25,
    round(p::numeric, 2) - 1.5, round(p::numeric, 2) + 0.75, 10.12345678, 1000.5, 5.25, 7, t * 1000, t,
    (t + 59000) * 1000, t + 6, 2, 0
FROM generate_series(CAST(:lo AS bigint), CAST(:hi AS bigint), 60000) t,
    LATERAL (SELECT 60000 + sin(t / 7e6) * 500 AS p) x
"""
JOINED = f"""
SELECT extract(epoch FROM c.time) * 1000 AS time, c.open, c.high, c.low, c.close, c.volume::float8,
    c.quote_volume::float8, c.trade_count, c.state, c.revision, c.origin,
    {", ".join(f"i.{name}" for name in INDICATORS)}
FROM candles_1m c LEFT JOIN indicators_1m i ON i.instrument_id = c.instrument_id AND i.time = c.time
WHERE c.instrument_id = :id ORDER BY c.time DESC LIMIT {BARS}
"""


def fill(engine: sa.Engine) -> Instrument:
    """Two thousand minutes of one instrument, with values that have all their digits."""
    with engine.begin() as connection:
        item = catalog.find(connection, "BTC/USDT", "binance")
        span = {"id": item.id, "lo": START_MS, "hi": START_MS + (2 * BARS - 1) * 60_000}
        connection.execute(sa.text(CANDLES), span)
        values = ", ".join(f"close * {n + 1} / 17" for n in range(len(INDICATORS)))
        names = ", ".join(INDICATORS)
        statement = f"INSERT INTO indicators_1m (instrument_id, time, {names}) SELECT instrument_id, time, {values}"
        connection.execute(sa.text(f"{statement} FROM candles_1m"))
    return item


def ask(address: str, path: str, requests: int, _: int) -> None:
    """So many requests over one connection, each read to its end into one buffer, at as little cost as may be."""
    host, port = address.split(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    buffer = memoryview(bytearray(1 << 21))
    with socket.create_connection((host, int(port))) as connection:
        for _number in range(requests):
            connection.sendall(request)
            got, end = 0, None
            while end is None or got < end:
                read = connection.recv_into(buffer[got:])
                assert read, "the connection was closed"
                got += read
                if end is None and (place := bytes(buffer[: min(got, 4096)]).find(b"\r\n\r\n")) >= 0:
                    head = bytes(buffer[:place]).lower()
                    assert head.startswith(b"http/1.1 200"), head
                    end = place + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])


def cold(web: Web, item: Instrument, _: int) -> float:
    """The chart as it is made where nothing is cached, encoded; what follows the answer is waited for, untimed."""
    web.redis.flushdb()
    began = time.perf_counter()
    chart = web.charts.chart(item, ChartRequest(Timeframe.M1, BARS, indicators=INDICATORS))
    took = time.perf_counter() - began
    assert len(chart.body) > 700_000
    web.later.wait()
    return took


def join(engine: sa.Engine, item: Instrument, _: int) -> None:
    """The peer: one query, rows as mappings, the standard library's JSON."""
    with engine.connect() as connection:
        rows = connection.execute(sa.text(JOINED), {"id": item.id}).mappings()
        text = json.dumps({"bars": [dict(row) for row in rows][::-1]}, default=float)
    assert len(text) > 100_000


def while_it_trades(wire: redis.Redis, item: Instrument, act: Callable[[int], None], turn: int) -> None:
    """Does it while the workers' messages about the instrument come, each of which voids what is remembered of it."""
    over = threading.Event()

    def trade() -> None:
        newest_ms, count = START_MS + (2 * BARS - 1) * 60_000, 0
        while not over.wait(0.1):
            count += 1
            series = {"1m": {"bars": [live_bar(newest_ms, count)], "indicators": []}}
            head = {"exchange": item.exchange.value, "symbol": item.symbol, "id": item.id}
            pubsub.publish(wire, keys.CHART_UPDATES, {**head, "series": series, "reload": False})

    trading = threading.Thread(target=trade)
    trading.start()
    try:
        act(turn)
    finally:
        over.set()
        trading.join()


def live_bar(time_ms: int, count: int) -> dict[str, Any]:
    """The open minute after so many trades."""
    last = (time_ms + 1000) * 1000 + count
    return {**bar(count), "time": time_ms, "order": [time_ms * 1000, 1, last, count]}


def main() -> int:
    """Measures all three."""
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--requests", type=int, default=150, help="of each round and way (150)")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder, wire, engine = stack.enter_context(stores("chart", given.url))
        item = fill(engine)
        settings = load_settings(
            database_url=engine.url.render_as_string(hide_password=False), redis_url=wire.url, data_dir=folder,
            log_dir=folder / "logs", market="live", rate_limit_reads="off", _env_file=None,
        )  # fmt: skip
        address = stack.enter_context(web_server(settings, MARKET="live"))
        client = redis.Redis.from_url(wire.url)
        stack.callback(client.close)
        ways = {
            CACHED: partial(ask, address, CHART, given.requests),
            TRADED: partial(while_it_trades, client, item, partial(ask, address, CHART, given.requests)),
            HELLO: partial(ask, address, HELLO, given.requests),
        }
        cached = judge(
            f"{given.requests} requests over one connection",
            lambda: in_turn(ways, given.rounds),
            [Goal(CACHED, HELLO, 0.4), Goal(TRADED, HELLO, 0.4)],
            rows=given.requests,
        )
        web = compose(platform(settings, process="web"))
        stack.callback(web.engine.dispose)
        slow = {SERVICE: partial(cold, web, item), JOIN: partial(join, engine, item)}
        first = judge(
            f"{BARS:,} bars with {len(INDICATORS)} indicators, nothing cached",
            lambda: in_turn(slow, given.rounds),
            [Goal(SERVICE, JOIN, 0.25, most=True)],
        )
    return 0 if cached and first else 1


if __name__ == "__main__":
    sys.exit(main())
