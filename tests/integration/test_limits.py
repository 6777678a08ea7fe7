"""The limits on a real Redis: one budget for all threads and processes, rests and breakers respected by all."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.cache import keys
from app.cache.account import FAILURES, PAUSE_MS, PROBE_MS, Account
from app.cache.limits import Limiter
from app.config import Settings
from app.errors import RateLimited
from app.local.redis import RedisServer

ROOT = Path(__file__).resolve().parents[2]
SPENDER = """
import sys, threading, redis
from app.cache.limits import Limiter
from app.errors import RateLimited

limiter, granted = Limiter(redis.Redis.from_url(sys.argv[1])), []

def spend():
    try:
        while True:
            limiter.spend("binance", 3, per_minute=int(sys.argv[2]))
            granted.append(3)
    except RateLimited as error:
        assert 0 < error.retry_after_s <= 61, error

threads = [threading.Thread(target=spend) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(granted))
"""


class Clock:
    """A wall clock set by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


def _wait(limiter: Limiter, weight: int = 1, *, per_minute: int = 50) -> float:
    """Seconds to wait, 0 where the weight was spent."""
    try:
        limiter.spend("binance", weight, per_minute=per_minute)
    except RateLimited as error:
        return error.retry_after_s
    return 0.0


def test_processes_and_threads_share_one_budget(settings: Settings, redis_client: redis.Redis) -> None:
    """Three processes of four threads each, asking without a pause: together just the budget of the minute."""
    command = [sys.executable, "-c", SPENDER, settings.redis_url, "601"]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    granted = [int(child.communicate(timeout=60)[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert sum(granted) == 600
    assert 0 < redis_client.pttl(keys.limit("binance")) <= 660_000


_ask = st.one_of(
    st.tuples(st.just("spend"), st.integers(1, 30)),
    st.tuples(st.just("used"), st.integers(0, 60)),
    st.tuples(st.just("rest"), st.integers(1, 20)),
    st.tuples(st.just("failed"), st.just(0)),
    st.tuples(st.just("answered"), st.just(0)),
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40_000), _ask), max_size=60))
def test_lua_and_python_keep_the_same_law(redis_client: redis.Redis, steps: list[tuple[int, tuple[str, int]]]) -> None:
    """Any course of events gets the same verdicts from Redis as from the account of a process alone."""
    redis_client.flushdb()
    clock, alone = Clock(), Account()
    limiter = Limiter(redis_client, now_ms=clock)
    for pause, (kind, value) in steps:
        clock.ms += pause
        if kind == "spend":
            assert _wait(limiter, value) * 1000 == pytest.approx(alone.spend(clock.ms, value, 50).wait_ms)
        elif kind == "used":
            limiter.used("binance", value)
            alone.used(clock.ms, value)
        elif kind == "rest":
            limiter.rest("binance", value)
            alone.rest(clock.ms, value * 1000)
        elif kind == "failed":
            limiter.failed("binance")
            alone.failed(clock.ms)
        else:
            limiter.answered("binance")
            alone.answered()


def test_a_rest_and_a_breaker_of_one_process_hold_for_all(redis_client: redis.Redis) -> None:
    """Retry-After told to one, and failures seen by several, keep everybody away; one probe brings all back."""
    clock = Clock()
    one, other = (Limiter(redis_client, now_ms=clock) for _ in range(2))
    one.rest("binance", 7.5)
    assert _wait(other) == 7.5
    other.rest("binance", 2)
    assert _wait(one) == 7.5, "a shorter rest does not end a longer one"
    clock.ms += 7_500
    assert _wait(other) == 0
    for k in range(FAILURES):
        (one if k % 2 else other).failed("binance")
    assert _wait(one) == _wait(other) == PAUSE_MS / 1000
    clock.ms += PAUSE_MS
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(lambda k: _wait((one, other)[k % 2]), range(16)))
    assert waits.count(0.0) == 1, "half open: one request tries"
    clock.ms += PROBE_MS - 1
    assert _wait(one) > 0
    other.answered("binance")
    assert _wait(one) == 0
    assert _wait(Limiter(redis_client, now_ms=clock), per_minute=1) > 0, "the sources' sums are one"


def test_sources_do_not_limit_each_other(redis_client: redis.Redis) -> None:
    """Each has a budget, a rest and a breaker of its own."""
    limiter = Limiter(redis_client)
    limiter.rest("yahoo", 60)
    limiter.spend("alpaca", 1, per_minute=1)
    with pytest.raises(RateLimited, match=r"alpaca.*used up"):
        limiter.spend("alpaca", 1, per_minute=1)
    with pytest.raises(RateLimited, match=r"yahoo.*asked all of us to wait"):
        limiter.spend("yahoo", 1, per_minute=1)


def test_with_redis_away_a_process_keeps_the_budget_alone(own_redis: RedisServer) -> None:
    """What it spent before counts; nothing waits for the dead server each time; a rest is kept too."""
    clock = Clock()
    client = redis.Redis.from_url(own_redis.url, socket_timeout=1, socket_connect_timeout=1)
    limiter = Limiter(client, now_ms=clock)
    for _ in range(30):
        assert _wait(limiter) == 0
    own_redis.stop()
    spent = sum(_wait(limiter) == 0 for _ in range(100))
    assert spent == 20
    clock.ms += 61_000
    assert _wait(limiter) == 0
    limiter.rest("binance", 5)
    assert _wait(limiter) == 5
    client.close()
