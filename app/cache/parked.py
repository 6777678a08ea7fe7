"""Messages put aside since they failed, for who looks for the reason; nobody sends them again.

The newest hundred are kept: a defect that refuses every message must not fill the Redis that is the broker too, and an
old cause that nobody has cleared away must not hide a new one. Each failure is in the log and in a counter besides.
"""

from __future__ import annotations

from redis import Redis

from app.cache import keys

MOST = 100  # a full batch of FLUSH_TRADES=5000 has 250 kB
DROPPED = "parked_dropped"  # the counter of those that had to go

_PARK = """
local over = redis.call('RPUSH', KEYS[1], ARGV[1]) - tonumber(ARGV[2])
if over > 0 then
    redis.call('LTRIM', KEYS[1], over, -1)
    redis.call('HINCRBY', KEYS[2], ARGV[3], over)
end
"""


def park(redis: Redis, data: bytes) -> None:
    """Puts a message aside; beyond MOST the oldest goes, and is counted in the same step."""
    redis.eval(_PARK, 2, keys.PARKED, keys.COUNTERS, data, MOST, DROPPED)
