"""Indicators through the outbox into a real PostgreSQL, against TA-Lib over the whole stored history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
import redis
import sqlalchemy as sa

from app.bootstrap import Platform
from app.cache import keys
from app.config import Settings
from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import Timeframe
from app.local.servers import free_port
from app.services import derive as service
from app.services.derive import Derive
from app.storage import catalog
from app.storage import indicators as store
from app.storage.arrays import literal
from tests.indicator_oracle import Floats, assert_equal, exact_vwap, talib_columns

MINUTE = 60_000
START = 1_700_000_000_000 // 86_400_000 * 86_400_000 - 300 * MINUTE  # five hours before a UTC midnight

INSERT = """
INSERT INTO "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT :id, timestamptz 'epoch' + t * interval '1 millisecond', c, c + s, c - s, c, v, q, 0, 1, 0, 0, 0, 0, :state, 0
FROM unnest(CAST(:t AS bigint[]), CAST(:c AS float8[]), CAST(:s AS float8[]), CAST(:v AS numeric[]),
    CAST(:q AS numeric[])) AS u (t, c, s, v, q)
ON CONFLICT (instrument_id, time) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, volume = excluded.volume, quote_volume = excluded.quote_volume, state = excluded.state
"""


@dataclass
class Market:
    """Writes bars and marks as the earlier stages do, and compares what is stored with the oracle."""

    engine: sa.Engine
    kept: dict[tuple[int, Timeframe], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def derive(self) -> Derive:
        return Derive(self.engine, store, self.kept.update)

    def write(
        self,
        instrument: int,
        close: Floats,
        *,
        first: int = 0,
        tf: Timeframe = Timeframe.M1,
        state: int = 1,
        seed: int = 3,
    ) -> None:
        """Bars at START + first, one after the other."""
        rng = np.random.default_rng(seed)
        volumes = [Decimal(int(n)).scaleb(-8) for n in rng.integers(0, 10**11, len(close))]
        quotes = [volume * Decimal(repr(float(price))) for volume, price in zip(volumes, close, strict=True)]
        values = {
            "id": instrument,
            "state": state,
            "t": literal(tf.floor(START) + (first + i) * tf.ms for i in range(len(close))),
            "c": literal(close.tolist()),
            "s": literal((close * 0.001 * rng.uniform(0, 1, len(close))).tolist()),
            "v": literal(volumes),
            "q": literal(quotes),
        }
        with self.engine.begin() as connection:
            connection.execute(sa.text(INSERT.replace("{tf}", tf.value)), values)

    def mark(self, instrument: int, first: int, last: int) -> None:
        with self.engine.begin() as connection:
            span = store.Span(instrument, START + first * MINUTE, START + last * MINUTE)
            store.settle(connection, done=[], rest=[span], publish=[])

    def marks(self, stage: str) -> list[tuple[int, int, int]]:
        """(instrument, first, last) of the stage's marks, in minutes after START."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text(
                    "SELECT instrument_id, extract(epoch FROM lo)::bigint, extract(epoch FROM hi)::bigint"
                    " FROM touched WHERE stage = :stage ORDER BY id"
                ),
                {"stage": stage},
            )
            return [(i, (lo * 1000 - START) // MINUTE, (hi * 1000 - START) // MINUTE) for i, lo, hi in rows]

    def check(self, instrument: int, *, tf: Timeframe = Timeframe.M1) -> int:
        """Every stored value equals the oracle's over the whole stored history; returns how many bars there are."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text(
                    f"SELECT (extract(epoch FROM time) * 1000)::bigint, high, low, close, volume, quote_volume"
                    f' FROM "candles_{tf.value}" WHERE instrument_id = :id AND (state > 0 OR :all) ORDER BY time'
                ),
                {"id": instrument, "all": tf is not Timeframe.M1},
            ).all()
            found = store.read(connection, instrument, tf, start_ms=0, end_ms=2**42)
        times = [row[0] for row in rows]
        assert [row["time"] for row in found] == times
        high, low, close, volume = (np.array([float(row[i]) for row in rows]) for i in (1, 2, 3, 4))
        want = talib_columns(high, low, close, volume)
        got = {
            name: np.array([np.nan if (value := row[name]) is None else value for row in found]) for name in INDICATORS
        }
        vwap = got.pop("vwap")
        np.testing.assert_array_equal(vwap, exact_vwap(times, [row[4] for row in rows], [row[5] for row in rows]))
        assert_equal(got, want, close, volume)
        return len(rows)


@pytest.fixture
def market(engine: sa.Engine) -> Market:
    with engine.begin() as connection:
        tables = [f"{kind}_{tf.value}" for kind in ("candles", "indicators") for tf in Timeframe]
        connection.execute(sa.text("TRUNCATE touched, " + ", ".join(f'"{name}"' for name in tables)))
    return Market(engine)


def walk(n: int, *, seed: int = 1) -> Floats:
    return np.asarray(np.round(100 + np.cumsum(np.random.default_rng(seed).integers(-20, 21, n)) * 0.01, 8))


def test_a_history_and_then_one_bar_after_the_other(market: Market) -> None:
    close = walk(1_000)
    market.write(1, close[:-5])
    market.mark(1, 0, 994)
    assert market.derive.run(0) == (1, False)
    assert market.check(1) == 995
    assert market.marks("publish") == [(1, 0, 994)]
    for place in range(995, 1_000):
        market.write(1, close[place : place + 1], first=place, seed=place)
        market.mark(1, place, place)
        assert market.derive.run(0) == (1, False)
    assert market.check(1) == 1_000
    assert market.marks("indicators") == []
    assert market.kept[1, Timeframe.M1]["time"] == START + 999 * MINUTE


def test_nothing_to_do_and_marks_without_bars(market: Market) -> None:
    assert market.derive.run(0) == (0, False)
    market.mark(1, 0, 10)
    assert market.derive.run(0) == (1, False)
    market.write(1, walk(50), first=100)
    market.mark(1, 0, 10)
    market.mark(1, 5_000, 5_001)
    assert market.derive.run(0) == (2, False)
    assert market.check(1) == 50
    assert market.marks("indicators") == []


@pytest.mark.parametrize("flat", [450, 6_000])
def test_after_flat_bars(market: Market, flat: int) -> None:
    close = np.concatenate((walk(700), np.full(flat, 101.5), walk(20, seed=4)))
    market.write(1, close[: 700 + flat - 1])
    market.mark(1, 0, 700 + flat - 2)
    market.derive.run(0)
    for place in range(700 + flat - 1, len(close), 7):
        market.write(1, close[place : place + 7], first=place, seed=place)
        market.mark(1, place, min(place + 6, len(close) - 1))
        market.derive.run(0)
    assert market.check(1) == len(close)


def test_bars_imported_in_front_of_others(market: Market) -> None:
    market.write(1, walk(1_500, seed=2), first=2_000)
    market.mark(1, 2_000, 3_499)
    market.derive.run(0)
    assert market.check(1) == 1_500
    market.write(1, walk(700, seed=3), first=1_000)
    market.mark(1, 1_000, 1_699)
    market.derive.run(0)
    assert market.check(1) == 2_200
    lo, hi = market.marks("publish")[-1][1:]
    assert (lo, hi >= 2_500) == (1_000, True), "charts hear of the bars that followed"


def test_a_revised_bar_reaches_forward_over_flat_bars(market: Market) -> None:
    close = np.concatenate((walk(700), np.full(3_000, 101.5), walk(900, seed=4)))
    market.write(1, close)
    market.mark(1, 0, len(close) - 1)
    market.derive.run(0)
    market.write(1, np.array([150.0]), first=650)
    market.mark(1, 650, 650)
    market.derive.run(0)
    assert market.check(1) == len(close)


def test_open_minutes_are_no_bars_but_open_buckets_are(market: Market) -> None:
    market.write(1, walk(300))
    market.write(1, walk(3), first=300, state=0)
    for tf in (Timeframe.M5, Timeframe.D1):
        market.write(1, walk(60), tf=tf)
        market.write(1, walk(1), tf=tf, first=60, state=0)
    market.mark(1, 0, 302)
    market.derive.run(0)
    assert market.check(1) == 300
    assert market.check(1, tf=Timeframe.M5) == 61
    market.mark(1, 303, 60 * 1440)
    market.derive.run(0)
    assert market.check(1, tf=Timeframe.D1) == 61


def test_several_timeframes_and_instruments_with_gaps(market: Market) -> None:
    for instrument in (1, 2, 3):
        for tf in Timeframe:
            market.write(instrument, walk(700, seed=instrument), tf=tf)
            market.write(instrument, walk(400, seed=instrument + 9), tf=tf, first=1_500 * instrument)
        market.mark(instrument, 0, 1_500 * instrument * 1440 + 400 * 1440)
    while market.derive.run(0).more:
        pass
    for instrument in (1, 2, 3):
        for tf in Timeframe:
            assert market.check(instrument, tf=tf) == 1_100
        assert (instrument, Timeframe.D1) in market.kept


def test_a_long_stretch_is_cut_and_live_marks_come_between(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BARS", 700)
    monkeypatch.setattr(service, "INSTRUMENTS", (1, 1))
    monkeypatch.setattr(service, "RUN_S", 0)
    market.write(1, walk(2_500))
    market.write(2, walk(10))
    market.mark(1, 0, 2_499)
    market.mark(2, 0, 9)
    assert market.derive.run(0) == (1, True)
    assert market.marks("indicators") == [(2, 0, 9), (1, 700, 2_499)]
    assert market.marks("publish") == [(1, 0, 699)]
    while market.derive.run(0).more:
        pass
    assert market.check(1) == 2_500
    assert market.check(2) == 10
    assert market.marks("indicators") == []


def test_a_mark_that_comes_while_deriving_stays(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.write(1, walk(300))
    market.mark(1, 0, 299)
    monkeypatch.setattr(service, "RUN_S", 0)
    settle: Callable[..., None] = store.settle

    def late(connection: sa.Connection, **spans: Any) -> None:
        market.write(1, np.array([50.0]), first=299)
        with market.engine.begin() as other:
            settle(other, done=[], rest=[store.Span(1, START + 299 * MINUTE, START + 299 * MINUTE)], publish=[])
        settle(connection, **spans)

    with monkeypatch.context() as patch:
        patch.setattr(store, "settle", late)
        market.derive.run(0)
    assert market.marks("indicators") == [(1, 299, 299)]
    market.derive.run(0)
    assert market.check(1) == 300


def test_one_process_a_shard(market: Market) -> None:
    market.write(1, walk(30))
    market.mark(1, 0, 29)
    with market.engine.begin() as other:
        assert store.lock(other, 0)
        assert market.derive.run(0) == (0, False)
        assert market.marks("indicators") == [(1, 0, 29)]
    two = Derive(market.engine, store, market.kept.update, shards=2)
    assert two.run(0) == (0, False), "instrument 1 belongs to shard 1"
    assert two.run(1) == (1, False)
    assert market.check(1) == 30


def test_the_newest_values_are_kept_in_redis(
    market: Market, settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(settings, process="tests")
    with market.engine.connect() as connection:
        instrument = catalog.find(connection, "BTC/USDT", "binance")
    market.write(instrument.id, walk(300))
    market.mark(instrument.id, 0, 299)
    market.write(10_000, walk(30))  # not in the catalogue: stored, not kept
    market.mark(10_000, 0, 29)
    assert platform.derive.run(0) == (2, False)
    assert market.check(10_000) == 30
    key = keys.indicators("binance", "BTC/USDT", "1m")
    assert redis_client.keys("indicators:*") == [key.encode()]
    assert 0 < redis_client.ttl(key) <= 300
    with market.engine.connect() as connection:
        row = store.read(connection, instrument.id, Timeframe.M1, start_ms=START, end_ms=2**42)[-1]
    assert orjson.loads(redis_client.get(key)) == row

    gone = redis.Redis(host="127.0.0.1", port=free_port(), socket_connect_timeout=1)
    monkeypatch.setitem(platform.__dict__, "redis", gone)
    market.mark(instrument.id, 0, 299)
    assert platform.derive.run(0) == (1, False), "Redis is a cache: values are stored without it"
    platform.engine.dispose()


def test_reads_are_bounded_and_by_instrument(market: Market) -> None:
    for instrument in (1, 2):
        market.write(instrument, walk(40))
        market.mark(instrument, 0, 39)
    market.derive.run(0)
    bounds = {"start_ms": START + 10 * MINUTE, "end_ms": START + 12 * MINUTE}
    with market.engine.connect() as connection:
        rows = store.read_many(connection, [1, 2], Timeframe.M1, **bounds)
        alone = store.read(connection, 2, Timeframe.M1, **bounds)
    assert [(key, (row["time"] - START) // MINUTE) for key, row in rows] == [(1, 10), (1, 11), (2, 10), (2, 11)]
    assert alone == [row for key, row in rows if key == 2]
    assert set(alone[0]) == {"time", *INDICATORS}
    assert alone[0]["rsi_14"] is None and isinstance(alone[0]["vwap"], float)


def test_a_crash_before_the_commit_leaves_the_marks(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.write(1, walk(30))
    market.mark(1, 0, 29)

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "settle", broken)
        with pytest.raises(ConnectionResetError):
            market.derive.run(0)
    assert market.marks("indicators") == [(1, 0, 29)]
    assert not market.kept
    market.derive.run(0)
    assert market.check(1) == 30
