"""Charts that a web process remembers: never older than what anybody was told, and never for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask import Flask

from app.cache import charts as cache
from app.cache import keys
from app.cache.publisher import RedisPublisher
from app.config import Settings
from app.domain.bars import State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.local.redis import RedisServer
from app.services import ready
from app.services.updates import Announcer
from app.storage import catalog
from tests.integration.web_data import START_MS, bar, store, update, utc, wipe
from webapp import create_app
from webapp.channels import SeriesChannel

NOW_MS = START_MS + 5 * MINUTE_MS


@pytest.fixture(scope="module")
def item(engine: sa.Engine) -> Instrument:
    with engine.connect() as conn:
        return catalog.find(conn, "BTC/USDT", "binance")


@pytest.fixture(autouse=True)
def bars(engine: sa.Engine, redis_client: redis.Redis, item: Instrument) -> None:
    """Five closed minutes and an open one."""
    wipe(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("TRUNCATE holes"))
    store(engine, [bar(item.id, START_MS + i * MINUTE_MS) for i in range(5)])
    store(engine, [bar(item.id, NOW_MS, price=100, state=State.OPEN)])


@contextmanager
def process(settings: Settings) -> Iterator[Flask]:
    """A web process: what it remembers is its own."""
    app = create_app(settings)
    try:
        yield app
    finally:
        app.extensions["web"].engine.dispose()
        app.extensions["web"].redis.close()


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is forgotten by its age, so that only what is told can have been what voided it."""
    monkeypatch.setattr(ready, "AGE_S", 3600.0)


@pytest.fixture
def app(settings: Settings, long: None) -> Iterator[Flask]:
    with process(settings) as app:
        yield app


def chart(app: Flask, symbol: str = "BTC-USDT", *, status: int = 200) -> Any:
    answer = app.test_client().get(f"/api/charts/{symbol}")
    assert answer.status_code == status, answer.text
    return answer.get_json()


def price(app: Flask) -> float:
    """The open of the newest bar."""
    return float(chart(app)["bars"][-1]["open"])


def warm(*apps: Flask) -> None:
    """Until the name, the settled part and the answer are all remembered."""
    for app in apps:
        for _ in range(3):
            chart(app)


def silently(engine: sa.Engine, item: Instrument, open_price: float) -> None:
    """Another price for the open minute that nobody is told of."""
    store(engine, [bar(item.id, NOW_MS, price=open_price, state=State.OPEN)])


def statements(app: Flask, act: Callable[[], object]) -> int:
    """How many statements the process sends to its database meanwhile."""
    sent: list[str] = []
    pool = app.extensions["web"].engine

    def note(_conn: Any, _cursor: Any, text: str, *_: Any) -> None:
        sent.append(text)

    sa.event.listen(pool, "before_cursor_execute", note)
    try:
        act()
    finally:
        sa.event.remove(pool, "before_cursor_execute", note)
    return len(sent)


def test_what_holds_is_answered_without_the_database(app: Flask) -> None:
    warm(app)
    first = chart(app)
    assert statements(app, lambda: chart(app)) == 0
    assert chart(app) == first


def test_a_message_about_the_instrument_is_in_the_next_chart(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis, item: Instrument
) -> None:
    warm(app)
    silently(engine, item, 200)
    assert price(app) == 100, "this test would prove nothing if it were read anyway"
    newest = bar(item.id, NOW_MS, price=200, state=State.OPEN)
    RedisPublisher(redis_client).hint(keys.CHART_UPDATES, [update("BTC/USDT", item.id, {"1m": [newest]})])
    assert price(app) == 200


def test_a_late_print_of_a_minute_without_a_bar_is_in_the_next_chart(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis, item: Instrument
) -> None:
    """Its open bar stands behind closed ones, and clients are told it at once."""
    wipe(engine)
    store(engine, [bar(item.id, START_MS + i * MINUTE_MS) for i in (0, 1, 3, 4)])
    RedisPublisher(redis_client).bump([item])
    warm(app)
    announcer = Announcer(RedisPublisher(redis_client), lambda _: {item.id: item}, keys.CHART_UPDATES, "completed")
    for time_ms, found in ((NOW_MS, []), (START_MS + 2 * MINUTE_MS, [2])):
        generation = redis_client.get(keys.generation("binance", "BTC/USDT"))
        late = bar(item.id, time_ms, price=77, state=State.OPEN)
        store(engine, [late])
        announcer.applied([late], batch="", upto_ms=NOW_MS + 1, facts={}, counts={})
        assert [row["open"] for row in chart(app)["bars"]].index(77) == (found or [4])[0]
        kept = redis_client.get(keys.generation("binance", "BTC/USDT")) == generation
        assert kept is not bool(found), "a trade of the minute that is open leaves the settled part alone"


def test_a_message_about_another_instrument_changes_nothing(app: Flask, redis_client: redis.Redis) -> None:
    warm(app)
    RedisPublisher(redis_client).hint(keys.CHART_UPDATES, [update("ETH/USDT", 2, {"1m": [bar(2, NOW_MS)]})])
    assert statements(app, lambda: chart(app)) == 0


def test_a_repaired_bar_is_in_the_next_chart(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis, item: Instrument
) -> None:
    warm(app)
    store(engine, [bar(item.id, START_MS, price=50, state=State.VERIFIED, revision=1)])
    assert chart(app)["bars"][0]["revision"] == 0
    RedisPublisher(redis_client).bump([item])
    assert (chart(app)["bars"][0]["open"], chart(app)["bars"][0]["revision"]) == (50, 1)


def test_two_processes_forget_together(
    app: Flask, settings: Settings, engine: sa.Engine, redis_client: redis.Redis, item: Instrument
) -> None:
    with process(settings) as other:
        warm(app, other)
        store(engine, [bar(item.id, START_MS, price=50, revision=1)])
        silently(engine, item, 200)
        assert price(app) == price(other) == 100
        RedisPublisher(redis_client).bump([item])
        for each in (app, other):
            assert (chart(each)["bars"][0]["open"], price(each)) == (50, 200)


def test_a_gap_is_told_and_shown_in_that_order(
    app: Flask, settings: Settings, engine: sa.Engine, item: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.watch.GAPS_S", 0.0)
    with process(settings) as other:
        watch = app.extensions["web"].watch
        channel: SeriesChannel = app.extensions["web"].hub.series(item, Timeframe.M1)
        watch.refresh()
        watch.news([channel])
        warm(app, other)
        for holes in (1, 0):
            change = (
                "INSERT INTO holes (instrument_id, lo, hi, cause, found) VALUES (:i, :lo, :hi, 'feed down', :hi)"
                if holes
                else "DELETE FROM holes WHERE instrument_id = :i AND lo >= :lo AND hi <= :hi"
            )
            with engine.begin() as conn:
                span = {"lo": utc(START_MS + MINUTE_MS), "hi": utc(START_MS + 2 * MINUTE_MS)}
                conn.execute(sa.text(change), {"i": item.id, **span})
            assert len(chart(other)["holes"]) == 1 - holes
            assert [told for told, data in watch.news([channel]) if b'"holes"' in data] == [channel]
            assert len(chart(app)["holes"]) == len(chart(other)["holes"]) == holes


def test_a_symbol_that_became_ambiguous_has_to_be_named(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis
) -> None:
    for _ in range(3):
        chart(app, "AAPL")
    with engine.begin() as conn:
        catalog.add(conn, "yahoo", "AAPL", active=False)
    try:
        chart(app, "AAPL")
        RedisPublisher(redis_client).hint(keys.WATCHLIST, [{}])
        assert chart(app, "AAPL", status=400)["error"]["code"] == "ambiguous_symbol"
        assert chart(app, "AAPL?exchange=alpaca")["exchange"] == "alpaca"
    finally:
        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM instruments WHERE exchange = 'yahoo' AND symbol = 'AAPL'"))


def test_what_nobody_tells_is_seen_after_a_moment(
    settings: Settings, engine: sa.Engine, item: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "AGE_S", 0.05)
    with process(settings) as app:
        warm(app)
        silently(engine, item, 200)
        end = time.monotonic() + 60
        while price(app) != 200:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_with_redis_away_and_back_nothing_old_is_answered(
    settings: Settings, engine: sa.Engine, item: Instrument, long: None, own_redis: RedisServer
) -> None:
    with process(settings.model_copy(update={"redis_url": own_redis.url})) as app:
        warm(app)
        assert statements(app, lambda: chart(app)) == 0
        own_redis.stop()
        silently(engine, item, 200)
        assert price(app) == 200, "the database answers"
        client = redis.Redis.from_url(own_redis.url)
        own_redis.start()
        client.flushdb()  # it comes back without its memory
        app.extensions["web"].charts._cache._away_until = 0.0
        silently(engine, item, 300)
        assert price(app) == 300, "what was remembered before is void"
        warm(app)
        assert statements(app, lambda: chart(app)) == 0
        silently(engine, item, 400)
        cache.touch(client, [item])
        assert price(app) == 400
        client.close()


def test_no_memory_is_no_error(settings: Settings, engine: sa.Engine, item: Instrument) -> None:
    with process(settings.model_copy(update={"chart_memory_mb": 0})) as app:
        warm(app)
        silently(engine, item, 200)
        assert price(app) == 200


def test_a_late_trade_is_in_the_next_chart_before_anything_is_derived_from_it(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis, item: Instrument
) -> None:
    warm(app)
    late = bar(item.id, START_MS + MINUTE_MS, price=70, revision=1)
    store(engine, [late])
    assert chart(app)["bars"][1]["open"] != 70
    RedisPublisher(redis_client).hint(keys.CHART_UPDATES, [update("BTC/USDT", item.id, {"1m": [late]})])
    assert chart(app)["bars"][1]["open"] == 70


def test_a_full_redis_takes_old_tokens_away(
    settings: Settings, engine: sa.Engine, item: Instrument, long: None, own_redis: RedisServer
) -> None:
    client = redis.Redis.from_url(own_redis.url)
    with process(settings.model_copy(update={"redis_url": own_redis.url})) as app:
        warm(app)
        client.config_set("maxmemory", 1)
        silently(engine, item, 200)
        assert price(app) == 100
        newest = bar(item.id, NOW_MS, price=200, state=State.OPEN)
        RedisPublisher(client).hint(keys.CHART_UPDATES, [update("BTC/USDT", item.id, {"1m": [newest]})])
        assert price(app) == 200
    client.close()


@pytest.mark.parametrize("again", [False, True])
def test_an_older_state_of_redis_brings_no_old_chart_back(
    app: Flask, engine: sa.Engine, redis_client: redis.Redis, item: Instrument, again: bool
) -> None:
    """Neither to a process that heard messages before, nor to one that starts and finds a server of another run."""
    warm(app)
    before = {name: redis_client.get(name) for name in redis_client.scan_iter("chart-*:binance:BTC/USDT")}
    store(engine, [bar(item.id, START_MS, price=50, revision=1)])
    RedisPublisher(redis_client).bump([item])
    assert chart(app)["bars"][0]["open"] == 50
    store(engine, [bar(item.id, START_MS, price=60, revision=2)])
    redis_client.mset(before)  # as a replica that had not heard of the bump, now the master
    hub = app.extensions["web"].hub
    if again:
        redis_client.set(keys.CHART_SERVER, redis_client.info("server")["run_id"])
        hub._resumed = True
    hub._resume()  # messages are heard
    assert chart(app)["bars"][0]["open"] == 60


def test_a_process_that_starts_finds_the_charts_of_others(app: Flask, redis_client: redis.Redis) -> None:
    app.extensions["web"].hub._resume()
    warm(app)
    names = list(redis_client.scan_iter("chart-*:binance:BTC/USDT"))
    before = redis_client.mget(names)
    with process(app.extensions["web"].settings) as other:
        other.extensions["web"].hub._resume()
        assert redis_client.mget(names) == before and None not in before
        other.extensions["web"].hub._resume()
        assert redis_client.mget(names) != before


def test_many_requests_at_once_are_no_failure_of_redis(app: Flask, item: Instrument) -> None:
    ready_cache = app.extensions["web"].charts._cache
    with ThreadPoolExecutor(150) as pool:
        found = list(pool.map(lambda _: ready_cache.versions(item).known, range(600)))
    assert all(found) and ready_cache._away_until == 0.0
