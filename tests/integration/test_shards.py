"""Shards of streamers, and many workers of trades on one queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa

from app.cache import health, keys
from app.cache.trade_queue import TradeQueue, make_publisher
from app.config import Settings
from app.domain.trades import Mark, Trade, TradeBatch
from app.local.redis import RedisServer
from tests.processes import Processes, processes, until
from tests.steady import Steady, steady

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKERS, SYMBOLS, BATCHES, EACH = 8, 20, 300, 10


@pytest.fixture
def market() -> Iterator[Steady]:
    with steady(100) as exchange:
        yield exchange


def streamer(run: Processes, shard: int) -> None:
    run.start(f"streamer-{shard}", "-m", "streamers", "binance", "--shard", f"{shard}/2")


def test_two_streamers_share_the_symbols_and_one_that_is_down_costs_only_its_own(
    settings: Settings, engine: sa.Engine, market: Steady, own_redis: RedisServer
) -> None:
    mine = settings.model_copy(update={
        "market": "live", "redis_url": own_redis.url, "binance_api_url": market.url,
        "binance_stream_url": market.url.replace("http", "ws", 1), "yahoo_api_url": "http://127.0.0.1:9",
    })  # fmt: skip
    client = redis.Redis.from_url(own_redis.url)

    def sql(query: str) -> list[int]:
        with engine.connect() as connection:
            return sorted(connection.execute(sa.text(query)).scalars().all())

    def beats() -> dict[int, int]:
        found = health.read(client)
        return {k: found.get(f"streamer-binance-{k}", {}).get("instruments", 0) for k in (0, 1)}

    followed = sql("SELECT id FROM instruments WHERE exchange = 'binance' AND active")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE instruments SET active = false WHERE exchange <> 'binance'"))
    with processes(mine, OUTAGE_S=10, START_BACKFILL_HOURS=0) as run:
        for name in ("trades", "bars", "history"):
            run.worker(name)
        run.beat()
        for shard in (0, 1):
            streamer(run, shard)
        until(lambda: sql("SELECT DISTINCT instrument_id FROM candles_1m") == followed, seconds=150, what=run.said())
        until(lambda: beats() == {k: sum(i % 2 == k for i in followed) for k in (0, 1)})
        assert sql("SELECT DISTINCT shard FROM feeds") == ["0/2", "1/2"]
        # A symbol that goes concerns the one streamer that has it.
        gone = next(i for i in followed if i % 2)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE instruments SET active = false WHERE id = :id"), {"id": gone})
        client.publish(keys.WATCHLIST, "{}")
        until(lambda: beats()[1] == sum(i % 2 for i in followed) - 1)
        assert beats()[0] == sum(i % 2 == 0 for i in followed)

        run.kill("streamer-1")
        down = [i for i in followed if i % 2 and i != gone]
        query = "SELECT DISTINCT instrument_id FROM holes WHERE cause = 'feed down'"
        # The minute it went in has to end first.
        until(lambda: sql(query) == down, seconds=180, what="the minutes of its symbols are holes")
        counted = "SELECT sum(trade_count)::bigint FROM candles_1m WHERE instrument_id % 2 = 0"
        (before,) = sql(counted)
        until(lambda: sql(counted)[0] > before + 50, what="the other one goes on")
        streamer(run, 1)
        until(lambda: beats()[1] == len(down), what="it is back")
        assert sql(query) == down


def test_eight_workers_on_one_queue_and_nothing_is_wrong(
    settings: Settings, engine: sa.Engine, own_redis: RedisServer
) -> None:
    mine = settings.model_copy(update={"redis_url": own_redis.url, "market": "live"})
    with engine.begin() as connection:
        for table in ("candles_1m", "ledger", "feeds", "feed_batches", "touched", "holes"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
        connection.execute(sa.text(
            "INSERT INTO instruments (exchange, symbol, wire_symbol, asset_class, currency, calendar, price_decimals) "
            f"SELECT 'binance', 'S' || n, 'S' || n, 'crypto', 'USDT', '24/7', 8 FROM generate_series(1, {SYMBOLS}) n"
        ))  # fmt: skip
        ids = connection.execute(sa.text("SELECT id FROM instruments WHERE symbol ~ '^S[0-9]+$'")).scalars().all()
    queue, start_us = TradeQueue(make_publisher(mine)), 1_700_000_040_000_000
    for n in range(BATCHES):
        # Each batch has trades of every symbol, in its own order, and the end of the batch before once more.
        trades = [
            Trade(i, start_us + number * 20_000, number, number, (100 + number % 7) * 10**8, number * 10**4, True)
            for place in range(SYMBOLS)
            for i in [ids[(place + n) % SYMBOLS]]
            for number in range(max(1, n * EACH - 2), (n + 1) * EACH)
        ]
        mark = Mark(1, n + 1, start_us + n, "binance", since_us=start_us)
        queue.send(TradeBatch.of(trades, mark=mark), 0)
    client = redis.Redis.from_url(own_redis.url)
    with processes(mine) as run:
        for k in range(WORKERS):
            run.worker("trades", node=f"trades{k}")

        def done() -> bool:
            with engine.connect() as connection:
                return connection.scalar(sa.text("SELECT count(*) FROM feed_batches")) == BATCHES

        until(done, seconds=180, what="all batches are in")
        until(lambda: client.llen("trades.0") == 0 and client.hlen("unacked") == 0)
    last = BATCHES * EACH - 1
    with engine.connect() as connection:
        found = connection.execute(sa.text(
            "SELECT instrument_id, sum(trade_count), sum(volume), min(low), max(high), min(open_seq), max(close_seq) "
            "FROM candles_1m GROUP BY 1 ORDER BY 1"
        )).all()  # fmt: skip
        pieces = connection.execute(sa.text("SELECT applied::text FROM ledger ORDER BY instrument_id")).scalars().all()
    volume = sum(range(1, last + 1)) * 10**4 / 10**8
    assert [(row[0], int(row[1]), float(row[2]), *row[3:]) for row in found] == [
        (i, last, pytest.approx(volume, abs=1e-12), 100.0, 106.0, 1, last) for i in sorted(ids)
    ]
    assert pieces == [f"{{[1,{last + 1})}}"] * SYMBOLS
    counted = health.counters(client)
    assert counted["trades"] == last * SYMBOLS
    assert not {"failed_tasks", "parked", "refused_batches", "partial"} & counted.keys()
