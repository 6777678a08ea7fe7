"""Trade batches: the encoding reverses, numbers stay exact, garbage is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.trades import REGULAR, VERSION, VERSION_UPDATES, Mark, Trade, TradeBatch, e8
from app.errors import WireError
from tests.strategies import conditioned, streams


def rows(batch: TradeBatch) -> list[tuple[int, ...]]:
    columns = (batch.instrument_id, batch.time_us, batch.first, batch.last, batch.price_e8, batch.size, batch.taker_buy)
    updates = [REGULAR] * len(batch) if batch.updates is None else batch.updates.tolist()
    return list(zip(*(column.tolist() for column in columns), updates, strict=True))


@given(conditioned(), st.booleans())
def test_encoding_reverses(trades: list[Trade], over: bool) -> None:
    mark = Mark(7, 3, 123, "binance", subscribed=((1, 5), (2, 6)), over=over)
    batch = TradeBatch.of(trades, mark=mark, sent_us=9, id="x")
    back = TradeBatch.decode(batch.encode())
    assert rows(back) == rows(batch) == [tuple(trade) for trade in trades]
    assert (back.mark, back.sent_us, back.size_scale, back.id) == (mark, 9, 8, "x")


@given(streams())
def test_regular_prints_keep_the_encoding_that_old_workers_read(trades: list[Trade]) -> None:
    body = msgpack.unpackb(TradeBatch.of(trades).encode())
    assert body["v"] == VERSION and "u" not in body
    odd = [trade._replace(updates=4) for trade in trades[:1]]
    assert msgpack.unpackb(TradeBatch.of([*odd, *trades[1:]]).encode())["v"] == VERSION_UPDATES


def test_an_empty_batch_carries_its_clock() -> None:
    back = TradeBatch.decode(TradeBatch.of([], mark=Mark(1, 2, 3, "binance")).encode())
    assert len(back) == 0 and back.mark == Mark(1, 2, 3, "binance")


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"not msgpack", msgpack.packb({"v": 1}), msgpack.packb([1]), msgpack.packb({"v": 9})]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        TradeBatch.decode(data)


def test_columns_of_unequal_length_are_refused() -> None:
    body = msgpack.unpackb(TradeBatch.of([Trade(1, 2, 3, 3, 4, 5, True)]).encode())
    body["c"][2] = b""
    with pytest.raises(WireError, match="unequal"):
        TradeBatch.decode(msgpack.packb(body))


@given(st.decimals(min_value=0, max_value=10**10, places=8, allow_nan=False))
def test_e8_is_exact(value: Decimal) -> None:
    assert e8(f"{value:f}") == int(value * 10**8)


def test_updates_of_another_length_are_refused() -> None:
    body = msgpack.unpackb(TradeBatch.of([Trade(1, 2, 3, 3, 4, 5, True, 4)]).encode())
    for updates in (b"", b"\x04\x04"):
        with pytest.raises(WireError, match="unequal"):
            TradeBatch.decode(msgpack.packb({**body, "u": updates}))
    del body["u"]
    with pytest.raises(WireError):
        TradeBatch.decode(msgpack.packb(body))


@pytest.mark.parametrize("text", ["", "-1", "1e5", "1.123456789", "1,5", ".", " 1", "NaN", "١"])
def test_e8_refuses_what_is_no_plain_decimal(text: str) -> None:
    with pytest.raises(ValueError, match=r"plain decimal|invalid literal"):
        e8(text)


def test_a_size_over_63_bits_takes_a_smaller_scale() -> None:
    huge = 10**13 * 10**8  # 10 trillion units
    batch = TradeBatch.of([Trade(1, 2, 3, 3, 4, huge, True)])
    assert int(batch.size[0]) * 10 ** (8 - batch.size_scale) == huge
    with pytest.raises(WireError, match="18 digits"):
        TradeBatch.of([Trade(1, 2, 3, 3, 4, huge, True), Trade(1, 2, 4, 4, 4, 1, True)])


def test_take_keeps_header() -> None:
    batch = replace(
        TradeBatch.of([Trade(1, i, i, i, 4, 5, True) for i in range(4)], mark=Mark(1, 1, 1, "binance")), id="a"
    )
    mixed = TradeBatch.of([Trade(1, i, i, i, 4, 5, True, 4 + i) for i in range(4)]).take(np.array([0, 2])).updates
    assert mixed is not None and mixed.tolist() == [4, 6]
    part = batch.take(np.array([0, 2]))
    assert part.first.tolist() == [0, 2] and part.mark == batch.mark and part.id == "a"
