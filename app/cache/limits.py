"""What a source allows us, shared by all processes: a budget a minute, the rest it asked for, a circuit breaker.

The state of a source is one Redis hash, changed by one Lua call at a time and by Redis' own clock, so that no two
processes spend the same weight: in any 60 seconds the sum stays within the budget. With Redis away each process keeps
the budget by itself, what it spent before included.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from threading import Lock
from typing import Any

from loguru import logger
from redis import Redis, RedisError

from app.cache import keys
from app.cache.account import FAILURES, LONGEST_MS, LOOK_AGAIN_MS, PAUSE_MS, PROBE_MS, WINDOW_S, Account, Verdict
from app.errors import RateLimited

AWAY_S = 1.0  # Redis is left alone for so long after a failure
KEEP_MS = 660_000  # a source nobody asks is forgotten after that

# Fields of the hash: a wall second → weight spent in it; rest, open, pause, probe (ms), failures. See Account.
_BEGIN = """
local key, now = KEYS[1], tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local second, sum, spent, state = math.floor(now / 1000), 0, {}, {}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local at, value = tonumber(fields[i]), tonumber(fields[i + 1])
  if not at then
    state[fields[i]] = value
  elseif math.abs(second - at) > WINDOW then
    redis.call('HDEL', key, fields[i])
  else
    spent[#spent + 1] = {at, value}
    sum = sum + value
  end
end
local function get(name) return state[name] or 0 end
local function set(name, value)
  state[name] = value
  redis.call('HSET', key, name, string.format('%d', value))
end
local function book(weight) redis.call('HINCRBY', key, string.format('%d', second), weight) end
local function keep()
  redis.call('PEXPIRE', key, string.format('%d', math.max(get('rest') - now, get('open') - now, 0) + KEEP))
end
local function wait(ms, why) return {math.floor(ms), why, get('failures'), sum} end
"""
_SPEND = """
local weight, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
if get('rest') > now then return wait(get('rest') - now, 'rest') end
if get('open') > now then return wait(get('open') - now, 'open') end
if get('open') > 0 and get('probe') > now then return wait(math.min(get('probe') - now, LOOK_AGAIN), 'open') end
local over = sum + math.min(weight, budget) - budget
if over > 0 then
  table.sort(spent, function(a, b) return a[1] < b[1] end)
  for _, one in ipairs(spent) do
    over = over - one[2]
    if over <= 0 then return wait((one[1] + WINDOW + 1) * 1000 - now, 'spent') end
  end
  return wait(WINDOW * 1000, 'spent')
end
book(weight)
sum = sum + weight
if get('open') > 0 then set('probe', now + PROBE) end
keep()
return wait(0, '')
"""
_USED = """
local missing = tonumber(ARGV[2]) - sum
if missing > 0 then book(missing) keep() end
"""
_REST = """
set('rest', math.max(get('rest'), now + tonumber(ARGV[2])))
keep()
"""
_FAILED = """
set('failures', get('failures') + 1)
local pause = 0
if get('open') > 0 then
  if get('open') <= now then pause = math.min(2 * get('pause'), LONGEST) end
elseif get('failures') >= FAILURES then
  pause = PAUSE
end
if pause > 0 then set('pause', pause) set('open', now + pause) set('probe', 0) end
keep()
return pause
"""
_ANSWERED = """
redis.call('HDEL', KEYS[1], 'failures', 'open', 'pause', 'probe')
"""
_CONSTANTS = {
    "WINDOW": WINDOW_S,
    "KEEP": KEEP_MS,
    "LOOK_AGAIN": LOOK_AGAIN_MS,
    "PROBE": PROBE_MS,
    "LONGEST": LONGEST_MS,
    "FAILURES": FAILURES,
    "PAUSE": PAUSE_MS,
}
_WORDS = {
    "spent": "the requests of this minute are used up",
    "rest": "it asked all of us to wait",
    "open": "it failed again and again and is left alone for a while",
}


class Limiter:
    """Every source's budget; safe to use from several threads."""

    def __init__(self, redis: Redis, *, now_ms: Callable[[], int] | None = None) -> None:
        """`now_ms` stands in for Redis' and the machine's wall clock in tests."""
        self._redis, self._now_ms = redis, now_ms
        self._accounts: dict[str, Account] = defaultdict(Account)
        self._lock = Lock()
        self._seen: dict[str, tuple[int, int, int]] = {}  # of all processes: failures, the sum in that wall second
        self._away_until = 0.0
        local = "".join(f"local {name} = {value}\n" for name, value in _CONSTANTS.items())
        self._spend, self._used, self._rest, self._failed = (
            redis.register_script(local + _BEGIN + body) for body in (_SPEND, _USED, _REST, _FAILED)
        )
        self._answered = redis.register_script(_ANSWERED)

    def spend(self, source: str, weight: int, *, per_minute: int) -> None:
        """Spend `weight` of the minute's budget; raises RateLimited with the seconds to wait."""
        answer = self._ask(self._spend, source, weight, per_minute)
        now_ms = self._wall_ms()
        with self._lock:
            if answer is None:
                verdict = self._accounts[source].spend(now_ms, weight, per_minute)
            else:
                verdict = Verdict(int(answer[0]), _text(answer[1]))
                self._seen[source] = (int(answer[2]), int(answer[3]), now_ms // 1000)
                if not verdict.wait_ms:
                    self._accounts[source].book(now_ms, weight)
        if verdict.wait_ms > 0:
            wait_s = verdict.wait_ms / 1000
            raise RateLimited(f"{source} rests for {wait_s:.1f} s: {_WORDS[verdict.why]}", retry_after_s=wait_s)

    def used(self, source: str, weight: int) -> None:
        """Take over the source's own count of this minute where it is higher than ours."""
        now_ms = self._wall_ms()
        _, known, second = self._seen.get(source, (0, -1, 0))
        if weight > known or second != now_ms // 1000:  # else Redis has as much: one round trip less
            self._ask(self._used, source, weight)
        with self._lock:
            self._accounts[source].used(now_ms, weight)

    def rest(self, source: str, seconds: float) -> None:
        """Nobody asks the source for so long: it said so."""
        wait_ms = max(0, int(seconds * 1000))
        self._ask(self._rest, source, wait_ms)
        with self._lock:
            self._accounts[source].rest(self._wall_ms(), wait_ms)

    def failed(self, source: str) -> None:
        """The source did not answer, or failed; the fifth time in a row opens its breaker."""
        pause_ms = self._ask(self._failed, source)
        if pause_ms:
            logger.warning("{} does not answer: left alone for {} s", source, int(pause_ms) // 1000)
        with self._lock:
            self._accounts[source].failed(self._wall_ms())

    def answered(self, source: str) -> None:
        """The source answered: its breaker is closed."""
        with self._lock:
            failures = self._accounts[source].failures or self._seen.get(source, (1, 0, 0))[0]
            self._accounts[source].answered()
        if failures:  # else there is nothing to forget: one round trip less
            self._ask(self._answered, source)

    def _ask(self, script: Callable[..., Any], source: str, *args: int) -> Any:
        """What the script says, None with Redis away (or where it says nothing)."""
        if time.monotonic() < self._away_until:
            return None
        now_ms = -1 if self._now_ms is None else self._now_ms()
        try:
            return script(keys=[keys.limit(source)], args=[now_ms, *args])
        except RedisError as error:
            self._away_until = time.monotonic() + AWAY_S
            logger.warning("Redis is away, {} is limited by this process alone: {}", source, type(error).__name__)
            return None

    def _wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self._now_ms is None else self._now_ms()


def spent(redis: Redis, source: str, *, now_s: float) -> int:
    """The weight spent at a source in the last minute, by all processes; raises RedisError."""
    fields: dict[bytes | str, bytes | str] = redis.hgetall(keys.limit(source))
    seconds = {_text(at): int(float(_text(weight))) for at, weight in fields.items() if _text(at).isdecimal()}
    return sum(weight for at, weight in seconds.items() if abs(now_s - int(at)) <= WINDOW_S)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
