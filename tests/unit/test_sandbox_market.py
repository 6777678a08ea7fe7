"""The simulated market's trades and truth, without a server."""

from __future__ import annotations

import asyncio
import csv
import random
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadFile, BadInput
from app.sandbox.catalogue import MAJORS, characters, split_wire
from app.sandbox.clock import MarketClock
from app.sandbox.generated import GeneratedTape
from app.sandbox.market import Market
from app.sandbox.recorded import load_tapes, split_size
from app.sandbox.series import Injected, Series
from app.sandbox.server import SandboxConfig, build_market
from app.sandbox.tape import Columns
from app.sandbox.truth import exact_json

DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2
ADA = MAJORS[-1]
HISTORY = [f"XRPETH-aggTrades-2019-10-{day}.zip" for day in (11, 12, 13)]


def _same(left: Columns, right: Columns) -> bool:
    return list(left.rows()) == list(right.rows())


def _tape(seed: int = 7) -> GeneratedTape:
    return GeneratedTape(ADA, seed=seed, per_second=0.3)


def test_same_seed_same_trades_however_they_are_asked_for() -> None:
    """Whole, in pieces, backwards and by another instance: the same trades; another seed gives others."""
    whole = Series(_tape(), oldest_us=0).trades(NOON_US, NOON_US + DAY_US)
    series = Series(_tape(), oldest_us=0)
    step = DAY_US // 37
    pieces = [series.trades(at, min(at + step, NOON_US + DAY_US)) for at in range(NOON_US, NOON_US + DAY_US, step)][
        ::-1
    ]
    assert [row for piece in reversed(pieces) for row in piece.rows()] == list(whole.rows())
    assert not _same(whole, Series(_tape(8), oldest_us=0).trades(NOON_US, NOON_US + DAY_US))


def test_ids_have_no_gap_and_prices_no_jump() -> None:
    """Across blocks and midnights ids go up by one, time never goes back, prices walk."""
    trades = Series(_tape(), oldest_us=0).trades(NOON_US, NOON_US + 3 * DAY_US)
    assert len(trades) > 60_000
    assert (np.diff(trades.id) == 1).all()
    assert (np.diff(trades.time_us) >= 0).all()
    assert (trades.size > 0).all() and (trades.price > 0).all()
    assert np.abs(np.diff(np.log(trades.price))).max() < 0.05
    assert 0.2 < trades.price.mean() / 1e8 < 1


def test_some_minutes_are_quiet_and_their_bars_flat() -> None:
    """A small symbol has minutes without trades; their bars repeat the close before them."""
    market = build_market(
        SandboxConfig(symbols=("ADA/USDT",), trades_per_second=0.3, start_us=NOON_US, history_hours=2)
    )
    bars = asyncio.run(market.bars("ADAUSDT", 60_000, start_ms=0, end_ms=NOON_US // 1000, now_us=NOON_US))
    assert len(bars) == 12 * 60 and sum(bar.trades == 0 for bar in bars) > 5
    for before, bar in pairwise(bars):
        assert bar.time_ms == before.time_ms + 60_000
        if not bar.trades:
            assert {bar.open, bar.high, bar.low, bar.close} == {before.close} and bar.first_id == -1


def test_trades_are_found_by_their_ids() -> None:
    """History by id is the same as by time, from any place."""
    series = Series(_tape(), oldest_us=NOON_US)
    trades = series.trades(NOON_US, NOON_US + DAY_US // 4)
    before = NOON_US + DAY_US
    for place in (0, 1, 999, len(trades) - 5):
        first = int(trades.id[place])
        assert [row.id for row in series.since_id(first, 5, before).rows()] == list(range(first, first + 5))
        assert [row.agg for row in series.since_agg(first, 5, before).rows()] == list(range(first, first + 5))
    assert next(series.since_id(0, 1, before).rows()).id == int(trades.id[0])
    last = int(series.latest(1, before).id[0])
    assert len(series.since_id(last, 10, before)) == 1 and len(series.since_id(last + 1, 10, before)) == 0


def test_injected_trade_takes_the_next_id_and_moves_the_later_ones() -> None:
    """Ids stay without gaps, in stream order, by time and by id."""
    series = Series(_tape(), oldest_us=NOON_US)
    before = series.trades(NOON_US, NOON_US + DAY_US // 8)
    at = int(before.time_us[100])
    for price in (5, 6):
        series.inject(Injected(at, price, 7, False))
    after = series.trades(NOON_US, NOON_US + DAY_US // 8)
    behind = int(np.searchsorted(before.time_us, at, side="right"))
    assert (np.diff(after.id) == 1).all() and len(after) == len(before) + 2
    assert after.price[behind : behind + 2].tolist() == [5, 6]
    assert after.id[behind] == before.id[behind - 1] + 1
    first = int(after.id[behind])
    assert [row.price for row in series.since_id(first, 2, NOON_US + DAY_US).rows()] == [5, 6]
    block, _ = series.block(at)
    assert first in block.id.tolist()


def test_a_trade_injected_before_a_blocks_first_is_in_the_block() -> None:
    """The stream reads by blocks: a trade between a block's start and its first trade is not lost there."""
    series = Series(_tape(), oldest_us=NOON_US)
    columns, end_us = series.block(NOON_US)
    series.inject(Injected(NOON_US, 5, 7, False))
    block, _ = series.block(NOON_US)
    assert int(columns.time_us[0]) > NOON_US and int(block.time_us[0]) == NOON_US
    assert (np.diff(block.id) == 1).all() and len(block) == len(columns) + 1
    assert int(series.trades(end_us, end_us + DAY_US).id[0]) == int(block.id[-1]) + 1


@given(st.integers(0, 10**13), st.integers(1, 200), st.integers(0, 8))
def test_split_sizes_are_exact_positive_and_plain(units: int, parts: int, zeros: int) -> None:
    """The parts sum to the whole, are positive where possible, and keep its decimals where they can."""
    size = units * 10**zeros
    sizes = split_size(size, parts, key="k")
    assert sum(sizes) == size and len(sizes) == parts
    assert min(sizes) > 0 or size < parts
    own = next(unit for unit in (10**places for places in range(8, -1, -1)) if size % unit == 0)
    if size // own >= parts:
        assert all(part % own == 0 for part in sizes)
    assert split_size(size, parts, key="k") == sizes


def _replay(shared_data: Path, end_us: int) -> Market:
    files = tuple(shared_data / name for name in HISTORY)
    return build_market(SandboxConfig(replay=files, start_us=end_us, history_hours=1))


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> dict[int, dict[str, str]]:
    """The recorded minutes as an independent program computed them."""
    with (shared_data / "XRPETH-1m-2019-10-11_13.csv").open(newline="") as file:
        return {int(row["open_time_ms"]): row for row in csv.DictReader(file)}


def test_truth_of_the_recorded_files_equals_the_independent_oracle(
    shared_data: Path, expected: dict[int, dict[str, str]]
) -> None:
    """All 2,469 minutes exactly, and a flat bar in each of the 1,091 quiet ones."""
    end_ms = max(expected) + 60_000
    market = _replay(shared_data, end_ms * 1000)
    bars = asyncio.run(market.bars("XRPETH", 60_000, start_ms=0, end_ms=end_ms, now_us=end_ms * 1000))
    traded = [exact_json(bar) for bar in bars if bar.trades]
    assert [bar["time"] for bar in traded] == sorted(expected) and len(bars) - len(traded) == 1091
    for bar in traded:
        row = expected[bar["time"]]
        for name in ("open", "high", "low", "close", "volume"):
            assert Decimal(bar[name]) == Decimal(row[name])
        assert round(Decimal(bar["quote_volume"]), 8) == Decimal(row["quote_volume"])
        assert bar["trade_count"] == int(row["trade_count"])


def test_longer_bars_are_those_of_the_minutes(shared_data: Path, expected: dict[int, dict[str, str]]) -> None:
    """Each longer timeframe equals the exact-decimal roll-up of the oracle, also cut off by a limit."""
    end_ms = max(expected) + 60_000
    market = _replay(shared_data, end_ms * 1000)
    for minutes in (5, 15, 60, 240, 1440):
        length = minutes * 60_000
        bars = asyncio.run(market.bars("XRPETH", length, start_ms=0, end_ms=end_ms, now_us=end_ms * 1000))
        for bar in (bar for bar in bars if bar.trades):
            rows = [expected[t] for t in range(bar.time_ms, bar.time_ms + length, 60_000) if t in expected]
            shown = exact_json(bar)
            assert Decimal(shown["open"]) == Decimal(rows[0]["open"])
            assert Decimal(shown["close"]) == Decimal(rows[-1]["close"])
            assert Decimal(shown["high"]) == max(Decimal(row["high"]) for row in rows)
            assert Decimal(shown["volume"]) == sum(Decimal(row["volume"]) for row in rows)
            assert shown["trade_count"] == sum(int(row["trade_count"]) for row in rows)
        assert sum(bar.trades for bar in bars) == 15388189 - 15373518 + 1
        first = asyncio.run(market.bars("XRPETH", length, start_ms=0, end_ms=end_ms, now_us=end_ms * 1000, limit=3))
        assert first == bars[:3]


def _rows(path: Path) -> Iterator[list[str]]:
    with zipfile.ZipFile(path) as archive:
        yield from csv.reader(archive.read(archive.namelist()[0]).decode().splitlines())


def test_csv_with_header_and_microseconds_is_the_same_tape(shared_data: Path, tmp_path: Path) -> None:
    """Newer bulk files have a header and µs; the trades are the same."""
    source = shared_data / HISTORY[0]
    lines = ["agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker,is_best_match"]
    lines += [",".join([*row[:5], row[5] + "000", *row[6:]]) for row in _rows(source)]
    (tmp_path / "XRPETH-aggTrades-2019-10-11.csv").write_text("\n".join(lines) + "\n")
    (one,) = load_tapes([source], seed=7)
    (two,) = load_tapes([tmp_path / "XRPETH-aggTrades-2019-10-11.csv"], seed=7)
    assert _same(one.block(0)[0], two.block(0)[0])
    assert one.spec.symbol == "XRP/ETH" and one.spec.price_decimals == 8 and one.spec.size_decimals == 0


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("prices.csv", "1,2\n", "its name is not like"),
        ("XRPETH-aggTrades-2019-10-11.csv", "", "holds no trades"),
        ("XRPETH-aggTrades-2019-10-11.csv", "1,2.0,1,5,5,1570752000000,True,True\n2,x,1,6,6,1,True,True\n", "line 2"),
        ("XRPETH-aggTrades-2019-10-11.zip", "no zip", "not a zip"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, match: str) -> None:
    """A file that cannot be replayed says which, where and why."""
    (tmp_path / name).write_text(text)
    with pytest.raises(BadFile, match=match):
        load_tapes([tmp_path / name], seed=1)


def test_symbols_of_ones_own_share_the_rate() -> None:
    """Unknown symbols get a price of their own, the same each time; nonsense is refused."""
    chosen = characters(("BTC/USDT", "FOO/BAR"), 10)
    assert sum(rate for _, rate in chosen) == pytest.approx(10)
    assert chosen[1][0] == characters(("FOO/BAR",), 1)[0][0]
    assert split_wire("ETHBTC") == ("ETH", "BTC")
    for bad in ("BTCUSDT", "/", "A-B/C"):
        with pytest.raises(BadInput):
            characters((bad,), 1)
    with pytest.raises(BadInput):
        split_wire("USDT")


def test_clock_follows_the_wall_at_its_speed() -> None:
    """Exchange time = start + (wall - anchor) × speed, never back, anew at each start."""
    wall = [1_000_000]
    clock = MarketClock(lambda: wall[0], start_us=50, speed=10, running=False)
    wall[0] += 500
    assert clock.now_us() == 50 and clock.describe()["speed"] == 0
    clock.restart()
    wall[0] += 7
    assert clock.now_us() == 120 and clock.describe()["epoch"] == 2
    clock.push(500)
    assert clock.now_us() == 500
    wall[0] += random.Random(1).randint(100, 200)
    assert clock.now_us() == 50 + (wall[0] - 1_000_500) * 10
