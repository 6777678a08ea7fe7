"""bulk.replace against candles.replace on the same data: the same rows, the same answer, only faster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar, Origin, PartialBar, State
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.storage import bulk, candles

T0 = 1_700_000_040_000
OURS, THEIRS = 101, 102
ALL = 'SELECT {} FROM "candles_{}" WHERE instrument_id = :i ORDER BY time'
FACTS = (
    "time, open, high, low, close, volume::text, quote_volume::text, taker_buy_volume::text, trade_count, open_time, "
    "open_seq, close_time, close_seq, state, revision, origin"
)


def bar(place: int, chance: random.Random, *, quiet: bool = False, tf: Timeframe = Timeframe.M1) -> Bar:
    """The exchange's own bar of a minute, without ids."""
    start_ms = T0 // tf.ms * tf.ms + place * tf.ms
    close = round(chance.uniform(1e-7, 7e4), 8)
    size = Decimal(chance.randrange(1, 10**16)).scaleb(-8)
    sums = (Decimal("0.00000000"),) * 3 if quiet else (size, size * 3, size / 2)
    prices = (close,) * 4 if quiet else (close, close * 1.25, close * 0.75, close)
    times = (start_ms * 1000, 0, (start_ms + tf.ms) * 1000 - 1, 0)
    return Bar(OURS, start_ms, *prices, *sums, 0 if quiet else 7, *times, State.VERIFIED, 0, Origin.EXCHANGE)


def page(count: int = 120, seed: int = 1, tf: Timeframe = Timeframe.M1) -> list[Bar]:
    """Bars of consecutive minutes; every seventh is quiet."""
    chance = random.Random(seed)
    return [bar(place, chance, quiet=place % 7 == 3, tf=tf) for place in range(count)]


def of(instrument_id: int, bars: Sequence[Bar]) -> list[Bar]:
    """The same bars of another instrument."""
    return [replace(one, instrument_id=instrument_id) for one in bars]


def trades(one: Bar, **changed: Any) -> PartialBar:
    """The bar as live trades with ids would have brought it."""
    facts = {name: getattr(one, name) for name in PartialBar._fields} | {"open_seq": 5, "close_seq": 11}
    return PartialBar(**(facts | changed))


@pytest.fixture(autouse=True)
def _empty(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE " + ", ".join(f'"candles_{tf.value}"' for tf in Timeframe)))


def rows(engine: sa.Engine, instrument_id: int, tf: Timeframe) -> list[Any]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(ALL.format(FACTS, tf.value)), {"i": instrument_id})]


def both(engine: sa.Engine, bars: list[Bar], *, tf: Timeframe = Timeframe.M1, flats: bool = True) -> list[int]:
    """Stores the bars both ways, holds the outcomes against each other; returns the changed times."""
    with engine.begin() as connection:
        theirs = candles.replace(connection, of(THEIRS, bars), tf=tf, flats=flats)
        ours = bulk.replace(connection, BarColumns.of(OURS, bars), tf=tf, flats=flats)
    assert sorted(time for _, time in ours) == sorted(time for _, time in theirs)
    assert {i for i, _ in ours} <= {OURS}
    assert rows(engine, OURS, tf) == rows(engine, THEIRS, tf)
    return sorted(time for _, time in ours)


@pytest.mark.parametrize("tf", [Timeframe.M1, Timeframe.H1, Timeframe.D1])
@pytest.mark.parametrize("flats", [True, False])
def test_fresh_identical_and_changed(engine: sa.Engine, tf: Timeframe, flats: bool) -> None:
    bars = page(tf=tf)
    times = [one.time_ms for one in bars]
    assert both(engine, bars, tf=tf, flats=flats) == times
    origins = {row[-1] for row in rows(engine, OURS, tf)}
    assert origins == ({Origin.FLAT, Origin.EXCHANGE} if flats else {Origin.EXCHANGE})
    assert both(engine, bars, tf=tf, flats=flats) == []
    bars[5] = replace(bars[5], high=bars[5].high + 1)
    bars[9] = replace(bars[9], quote_volume=bars[9].quote_volume + Decimal("0.00000001"))
    bars[10] = replace(bars[10], volume=bars[10].volume.quantize(Decimal("0.000000000000")))  # the same number
    bars[3] = replace(bar(3, random.Random(9), tf=tf))  # was quiet
    assert both(engine, bars, tf=tf, flats=flats) == [times[3], times[5], times[9]]
    revisions = [row[-2] for row in rows(engine, OURS, tf)]
    assert [place for place, revision in enumerate(revisions) if revision] == [3, 5, 9]


def test_over_the_bars_of_live_trades(engine: sa.Engine) -> None:
    """Open, closed, equal, different, of ids, flat by our own proof: nothing is lost, ids stay."""
    bars = page()
    held = [one for place, one in enumerate(bars) if place % 3 == 0 and one.trade_count]
    for instrument in (OURS, THEIRS):
        with engine.begin() as connection:
            parts = [
                trades(one, instrument_id=instrument, high=one.high + place % 2, volume=one.volume + place % 2)
                for place, one in enumerate(held)
            ]
            candles.merge(connection, parts)
            connection.execute(sa.text("UPDATE candles_1m SET state = 1 WHERE extract(minute FROM time)::int % 2 = 0"))
            quiet = replace(bars[10], instrument_id=instrument)
            candles.replace(connection, [quiet])
            connection.execute(
                sa.text("UPDATE candles_1m SET state = 1, origin = 3, close = close + 1 WHERE time = to_timestamp(:t)"),
                {"t": quiet.time_ms / 1000},
            )
    assert both(engine, bars) == [one.time_ms for one in bars]
    found = rows(engine, OURS, Timeframe.M1)
    assert {row[-3] for row in found} == {State.VERIFIED}
    assert sum(row[10] == 5 for row in found) == len(held)
    assert {row[-1] for row in found} == {Origin.TRADES, Origin.EXCHANGE, Origin.FLAT}


def test_two_pages_in_one_transaction_and_one_taken_back(engine: sa.Engine) -> None:
    bars = page(240)
    both(engine, bars[:60])
    with engine.begin() as connection:
        assert len(bulk.replace(connection, BarColumns.of(OURS, bars[:120]))) == 60
        assert len(bulk.replace(connection, BarColumns.of(OURS, bars[60:180]))) == 60
    with pytest.raises(RuntimeError), engine.begin() as connection:
        bulk.replace(connection, BarColumns.of(OURS, bars[60:]))
        raise RuntimeError
    assert len(rows(engine, OURS, Timeframe.M1)) == 180
    with engine.begin() as connection:
        assert len(bulk.replace(connection, BarColumns.of(OURS, bars))) == 60


def test_a_bar_that_comes_between_look_and_copy(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else commits a bar once we saw none: the page goes the other way, and nothing else is lost."""
    bars, look = page(), bulk._any

    def race(*arguments: Any) -> bool:
        found = look(*arguments)
        with engine.begin() as other:
            candles.merge(other, [trades(bars[50])])
        return found

    monkeypatch.setattr(bulk, "_any", race)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO settled VALUES (999, now())"))
        assert len(bulk.replace(connection, BarColumns.of(OURS, bars))) == 120
    found = rows(engine, OURS, Timeframe.M1)
    assert len(found) == 120 and {row[-3] for row in found} == {State.VERIFIED}
    assert [row[10] for row in found].count(5) == 1
    with engine.begin() as connection:
        assert connection.execute(sa.text("DELETE FROM settled WHERE instrument_id = 999")).rowcount == 1


def test_few_bars_several_instruments_and_no_copy_go_the_plain_way(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("COPY")

    monkeypatch.setattr(bulk, "_copy", forbidden)
    bars = page(60)
    with engine.begin() as connection:
        assert len(bulk.replace(connection, BarColumns.of(OURS, bars[:5]))) == 5
        assert len(bulk.replace(connection, [*bars, *of(THEIRS, bars)])) == 115
        assert bulk.replace(connection, []) == []
        monkeypatch.setattr(bulk, "_can_copy", lambda _: False)
        assert bulk.replace(connection, BarColumns.of(OURS, bars)) == []
    assert rows(engine, OURS, Timeframe.M1) == rows(engine, THEIRS, Timeframe.M1)


@pytest.mark.parametrize("version", ["PostgreSQL 17.5 on x86_64, compiled by emcc (Emscripten) 3.1.74, 32-bit"])
def test_a_server_that_copy_would_end_is_known_by_its_version(version: str) -> None:
    class Answer:
        info: dict[str, bool] = {}

        def execute(self, _: Any) -> Any:
            return type("Row", (), {"scalar_one": lambda _: version})()

    assert not bulk._can_copy(Answer())  # type: ignore[arg-type]


def test_what_the_driver_raises_comes_as_sqlalchemys(engine: sa.Engine) -> None:
    """So that tasks wait for a database that is away, or try a deadlock again."""
    with pytest.raises(sa.exc.OperationalError) as caught, engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 1"))
        bulk.replace(connection, BarColumns.of(OURS, page(5000)))
    assert isinstance(caught.value.orig, psycopg2.errors.QueryCanceled)


def test_columns_and_bars_are_the_same() -> None:
    bars = page()
    columns = BarColumns.of(OURS, bars[::-1])
    assert columns.bars() == bars
    assert columns.between(bars[3].time_ms, bars[7].time_ms + MINUTE_MS).bars() == bars[3:8]
    assert len(columns.between(0, T0)) == 0
