"""The newest indicator values of each series in Redis, for consumers that want no more than those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson
import redis
from loguru import logger

from app.cache import keys
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe

TTL_S = 300


def put_latest(
    client: redis.Redis,
    catalogue: Callable[[Iterable[int]], Mapping[int, Instrument]],
    latest: Mapping[tuple[int, Timeframe], Mapping[str, int | float | None]],
) -> None:
    """Keeps the values, by (instrument id, timeframe), for five minutes; with Redis away nothing is kept (law 8)."""
    known = catalogue({instrument for instrument, _ in latest})
    pipeline = client.pipeline(transaction=False)
    for (number, tf), values in latest.items():
        if instrument := known.get(number):
            key = keys.indicators(instrument.exchange.value, instrument.symbol, tf.value)
            pipeline.set(key, orjson.dumps(values), ex=TTL_S)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        logger.warning("newest indicators not kept, Redis is away: {}", type(error).__name__)
