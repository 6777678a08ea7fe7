"""A hypertable and a plain twin that go the same way, and what each step of theirs is compared by."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from app.domain.bars import UNPRICED, Bar, Origin, PartialBar, State
from app.domain.instruments import Instrument
from app.domain.official import OfficialBar
from app.domain.outbox import Due, Span
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.services.derive import Derive
from app.services.ports import Trail
from app.services.settle import Settle
from app.services.verify import Verify
from app.storage import candles, catalog, closing, feeds, holes, indicators, ledger, official, outbox, settled
from app.storage.tables import metadata
from app.storage.timescale import TABLES

M = MINUTE_MS
T0 = 1_571_227_200_000  # 2019-10-16 12:00 UTC, half a day before a chunk of minutes ends
DENSE, STOCK = 1440, 90  # minutes at the start, of each instrument
SHORT = 240  # minutes of ETH
NOW = T0 + 30 * 86_400_000
HALT = "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE job_id >= 1000"
JOBS = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' ORDER BY hypertable_name"
DAYS = "SELECT c::text FROM show_chunks('candles_1d') c UNION ALL SELECT c::text FROM show_chunks('indicators_1d') c"
# 1: compressed; 8: some of its rows are not.
LOOSE = """SELECT h.table_name, c.status FROM _timescaledb_catalog.chunk c JOIN _timescaledb_catalog.hypertable h
    ON h.id = c.hypertable_id WHERE h.table_name = ANY(:tables) AND NOT c.dropped AND c.status <> 1"""


class Silent:
    """A publisher that tells nobody."""

    def send(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None: ...
    def hint(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> None: ...
    def quote(self, quotes: Mapping[str, tuple[float, int]]) -> None: ...
    def bump(self, instruments: Iterable[Instrument]) -> None: ...
    def count(self, reason: str, n: int = 1) -> None: ...
    def applied(self, channel: str, messages: Sequence[Mapping[str, Any]], trail: Trail) -> None: ...


@dataclass(slots=True)
class World:
    """A database, and the services that derive bars and indicators in it over one connection."""

    engine: sa.Engine
    known: dict[str, Instrument] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self.engine.begin() as connection:
            self.known = {item.symbol: item for item in catalog.instruments(connection)}

    def id(self, symbol: str) -> int:
        return self.known[symbol].id

    def catalogue(self, wanted: Iterable[int]) -> dict[int, Instrument]:
        chosen = set(wanted)
        return {item.id: item for item in self.known.values() if item.id in chosen}

    @property
    def verify(self) -> Verify:
        stores = (official, candles, feeds, holes, ledger, outbox)
        return Verify(self.engine, *stores, self.catalogue, Silent(), 2.0)

    @contextmanager
    def marked(self) -> Iterator[tuple[sa.Connection, list[tuple[int, int]]]]:
        """A transaction, and the keys it has derived anew; everything that follows from them is derived."""
        with self.engine.begin() as connection:
            keys: list[tuple[int, int]] = []
            yield connection, keys
            outbox.mark(connection, "rollup", [Span(i, t, t) for i, t in keys])
        self.derive()

    def derive(self) -> None:
        settle = Settle(self.engine, outbox, holes, closing, self.catalogue, 7)
        while settle.run():
            pass
        derive = Derive(self.engine, indicators, lambda latest: None)
        while derive.run(0).more:
            pass

    def bars(self, symbol: str, lo: int, hi: int, tf: Timeframe = Timeframe.M1) -> list[Bar]:
        """The bars of the minutes [lo, hi) after T0."""
        with self.engine.begin() as connection:
            return candles.read(connection, self.id(symbol), tf, start_ms=T0 + lo * M, end_ms=T0 + hi * M, limit=5000)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of bars and indicators, but for the wall time it was written at."""
        found = {}
        with self.engine.begin() as connection:
            for name in TABLES:
                table = metadata.tables[name]
                columns = [column for column in table.c if column.name != "updated"]
                query = sa.select(*columns).order_by(table.c.instrument_id, table.c.time)
                found[name] = [tuple(row) for row in connection.execute(query)]
        return found

    def fill(self) -> None:
        """A day of BTC, some hours of ETH, both with quiet minutes, and an hour and a half of a stock."""
        chance = random.Random(7)
        parts = [*_trades(self.id("BTC/USDT"), DENSE, chance), *_trades(self.id("ETH/USDT"), SHORT, chance)]
        stock = [self.part("AAPL", minute, 100 + chance.random(), 0) for minute in range(STOCK)]
        stock += [self.part("AAPL", STOCK + 15, 101.0, 0)]  # alone in its quarter of an hour
        unpriced = self.part("AAPL", STOCK + 40, 1.0, 0)._replace(open=0.0, close=0.0, close_time=-1, close_seq=-1)
        stock += [unpriced._replace(open_time=UNPRICED, open_seq=UNPRICED)]
        parts = sorted([*parts, *stock])
        with self.engine.begin() as connection:
            for at in range(0, len(parts), 1000):
                candles.merge(connection, parts[at : at + 1000])
            ends = {"BTC/USDT": DENSE - 1, "ETH/USDT": SHORT, "AAPL": STOCK + 30}  # the last of BTC stays open
            due = [Due(self.id(symbol), T0, T0 + end * M, 0.0) for symbol, end in ends.items()]
            closing.close(connection, due, lo_ms=T0)
            holes.cover(connection, self.id("AAPL"), T0, T0 + 240 * M)
            settled.forward(connection, self.id("AAPL"), T0 + 240 * M)
        self.derive()
        with self.marked() as (connection, keys):  # the first six hours are verified
            keys += [(bar.instrument_id, bar.time_ms) for bar in self.bars_in(connection, "BTC/USDT", 0, 360)]
            candles.verify(connection, keys)

    def bars_in(self, connection: sa.Connection, symbol: str, lo: int, hi: int) -> list[Bar]:
        """The same within a transaction."""
        start_ms, end_ms = T0 + lo * M, T0 + hi * M
        return candles.read_many(connection, [self.id(symbol)], Timeframe.M1, start_ms=start_ms, end_ms=end_ms)

    def take(self, connection: sa.Connection, symbol: str, bars: Sequence[Bar], lo: int, hi: int) -> int:
        """History's word on the minutes [lo, hi)."""
        lo_ms, end_ms = T0 + lo * M, T0 + hi * M
        return self.verify.take(connection, self.known[symbol], bars, lo_ms=lo_ms, end_ms=end_ms, now_ms=NOW)

    def part(self, symbol: str, minute: int, price: float, seq: int) -> PartialBar:
        """Two trades of a minute."""
        return _part(self.id(symbol), minute, price, seq)


def _part(instrument_id: int, minute: int, price: float, seq: int) -> PartialBar:
    price = round(price, 2)
    sums = (Decimal("1.5"), Decimal("1.5") * Decimal(str(price)), Decimal("0.25"), 2)
    start, edges = T0 + minute * M, (price, price + 0.5, price - 0.5, price + 0.25)
    times = (start * 1000 + 7, seq, start * 1000 + 59_000_000, seq + 1 if seq else 0)
    return PartialBar(instrument_id, start, *edges, *sums, *times)


def _trades(instrument_id: int, minutes: int, chance: random.Random) -> list[PartialBar]:
    """A walk whose ids have no gap, though one minute in twelve is quiet."""
    parts: list[PartialBar] = []
    price = 100.0
    for minute in range(minutes):
        price += chance.gauss(0, 0.3)
        if minute in (0, minutes - 1) or minute % 100 < 3 or chance.random() > 1 / 12:
            parts.append(_part(instrument_id, minute, price, 2 * len(parts) + 1))
    return parts


def exchange(bar: Bar, **changes: Any) -> Bar:
    """The exchange's own bar for one of ours."""
    return replace(bar, state=State.VERIFIED, origin=Origin.EXCHANGE, revision=0, **changes)


def values(bar: Bar) -> tuple[Any, ...]:
    """What a part says of its minute."""
    return tuple(getattr(bar, name) for name in PartialBar._fields)


def word(bar: Bar) -> OfficialBar:
    """The exchange's first word on a minute."""
    values = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.taker_buy_volume)
    return OfficialBar(bar.instrument_id, Timeframe.M1, bar.time_ms, *values, bar.trade_count, None, None, False)


@dataclass(frozen=True, slots=True)
class Both:
    """The two, which do everything alike."""

    hyper: World
    plain: World

    def do(self, act: Callable[[World], Any]) -> Any:
        """What the act gives, the same in both, as are all rows, now and when the policies have compressed again."""
        found, expected = act(self.hyper), act(self.plain)
        assert found == expected
        self.compare()
        compress(self.hyper)
        self.compare()
        return found

    def compare(self) -> None:
        found, expected = self.hyper.rows(), self.plain.rows()
        for name in TABLES:
            unequal = set(found[name]) ^ set(expected[name])
            assert not unequal, f"{name}: {sorted(unequal, key=lambda row: row[:2])[:2]}"


def compress(world: World) -> None:
    """Runs the policies; a chunk of days is 3640 of them, and not old enough for its own."""
    world.engine.dispose()  # its pool would keep the only connection
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for job in connection.execute(sa.text(JOBS)).scalars().all():
            connection.execute(sa.text(f"CALL run_job({job})"))
        for chunk in connection.execute(sa.text(DAYS)).scalars().all():
            connection.execute(sa.text(f"SELECT compress_chunk('{chunk}')"))
        assert connection.execute(sa.text(LOOSE), {"tables": list(TABLES)}).all() == []
    world.engine.dispose()
