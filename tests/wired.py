"""A real web process, a wire to it that can be cut, and somebody who stores minutes meanwhile, as the workers do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa

from app.cache import charts, keys, pubsub
from app.config import Settings
from app.domain.bars import State
from app.domain.instruments import Instrument
from app.domain.timeframes import MINUTE_MS
from app.storage import catalog
from tests.browser.wire import Wire
from tests.integration.web_data import START_MS, bar, store, update, wipe
from tests.integration.web_server import web_server


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """The `host:port` of a web process; a module that needs other settings has a fixture of its own."""
    with web_server(settings) as found:
        yield found


@pytest.fixture
def wire(address: str) -> Iterator[Wire]:
    """A wire to it."""
    wire = Wire(address)
    yield wire
    wire.close()


class Collector:
    """Stores minutes of one instrument and announces them."""

    def __init__(self, engine: sa.Engine, client: redis.Redis, instrument: Instrument) -> None:
        self._engine, self._client, self._instrument = engine, client, instrument
        self.count = 0

    def add(self, minutes: int) -> tuple[int, float]:
        """So many minutes more, the last one open; returns how many there are, and the last one's close."""
        first, self.count = max(self.count - 1, 0), self.count + minutes
        states = [State.CLOSED] * (self.count - first - 1) + [State.OPEN]
        bars = [
            bar(self._instrument.id, START_MS + number * MINUTE_MS, price=100 + number % 7, state=state)
            for number, state in zip(range(first, self.count), states, strict=True)
        ]
        store(self._engine, bars)
        charts.bump(self._client, [self._instrument])
        pubsub.publish(self._client, keys.CHART_UPDATES, update("BTC/USDT", self._instrument.id, {"1m": bars[-4:]}))
        return self.count, bars[-1].close

    def revise(self, number: int) -> None:
        """One that was verified is another now, and nobody is told: as one that is away is not."""
        start_ms = START_MS + number * MINUTE_MS
        store(self._engine, [bar(self._instrument.id, start_ms, price=90, state=State.VERIFIED, revision=1)])
        charts.bump(self._client, [self._instrument])

    @property
    def last_ms(self) -> int:
        """The start of the newest minute."""
        return START_MS + (self.count - 1) * MINUTE_MS


@pytest.fixture
def collector(engine: sa.Engine, redis_client: redis.Redis) -> Collector:
    """Of BTC/USDT, of which nothing is stored yet."""
    wipe(engine)
    with engine.connect() as conn:
        return Collector(engine, redis_client, catalog.find(conn, "BTC/USDT", "binance"))
