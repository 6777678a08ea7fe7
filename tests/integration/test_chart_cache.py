"""The chart cache beside the broker's messages: in a Redis with a bound, charts leave room for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from app.cache.charts import ChartCache, memory
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.local.redis import RedisServer

CHART = b"x" * 700_000
LIMIT = 30 * len(CHART)


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    found = redis.Redis.from_url(own_redis.url)
    found.config_set("maxmemory", LIMIT)
    yield found
    found.close()


def coin(n: int) -> Instrument:
    return Instrument(n, Exchange.BINANCE, f"C{n}/USDT", f"C{n}USDT", "crypto", "USDT", "24x7", True, 2)


def put(cache: ChartCache, item: Instrument) -> bool:
    """Whether the chart is there after it was put."""
    generation = cache.versions(item).generation
    cache.put(item, Timeframe.M1, value=CHART, generation=generation)
    return cache.get(item, Timeframe.M1, generation=generation) == CHART


def test_charts_leave_room_in_a_redis_with_a_bound(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [coin(n) for n in range(60)]
    cache = ChartCache(client, ttl_s=60)
    kept = [put(cache, item) for item in items]
    assert kept[0] and 5 < sum(kept) < 20 and not any(kept[-30:])
    assert memory(client)[0] < 0.8 * LIMIT
    client.rpush("trades.0", b"x" * 1_000_000)  # as what it is for
    client.config_set("maxmemory", 0)
    monkeypatch.setattr(cache, "LOOK_S", 0.0)
    assert all(put(cache, item) for item in items)


def test_a_redis_that_does_not_tell_its_memory_is_used_all_the_same(client: redis.Redis) -> None:
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    host = client.connection_pool.connection_kwargs
    other = redis.Redis(host=host["host"], port=host["port"], username="reader", password="any")
    with pytest.raises(redis.ResponseError):
        memory(other)
    assert put(ChartCache(other, ttl_s=60), coin(1))
    other.close()
