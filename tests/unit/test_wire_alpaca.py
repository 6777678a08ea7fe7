"""Alpaca's wire codec: what the market builds, the clients parse back, and alpaca-py's own models read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgpack
import orjson
import pytest
from alpaca.data.models import Bar, Quote, Trade, TradeCancel, TradeCorrection, TradingStatus
from hypothesis import given
from hypothesis import strategies as st

from app.domain.timeframes import Timeframe
from app.errors import WireError
from app.wire import alpaca as wire
from app.wire import alpaca_values as values
from app.wire import numbers

TIME_US = 1_709_908_200_123_456  # 2024-03-08T14:30:00.123456Z
PRINT = values.Print("AAPL", TIME_US, 96921, "V", 12_655_000_000, 100 * 10**8, ("@", "I"), "C")
BAR = values.BarRow("AAPL", TIME_US // 60_000_000 * 60_000, 1.1, 1.3, 1.0, 1.2, Decimal(100), Decimal("1.15"), 3)

# What the exchange can print: at most 15 digits, which every float holds.
prices = st.integers(1, 10**15 - 1)
texts = st.sampled_from(("", "A", "B", "C", "V", "@"))
times = st.integers(1, 4 * 10**15)
symbols = st.sampled_from(("AAPL", "BRK.B"))
ids = st.integers(0, 2**63 - 1)
codes = st.lists(st.sampled_from(("@", "I", " ", "4")), max_size=4).map(tuple)
floats = prices.map(numbers.from_e8)
sides = st.builds(values.Side, ids, prices, prices, codes)


@st.composite
def bars(draw: st.DrawFn) -> values.BarRow:
    low, first, last, high = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
    if draw(st.booleans()):
        first, last = last, first
    ohlc = [numbers.from_e8(units) for units in (first, high, low, last)]
    volume, vwap = (Decimal(draw(st.integers(0, 10**11))) / draw(st.sampled_from((1, 100))) for _ in range(2))
    minute = draw(st.integers(1, 10**7)) * 60_000
    return values.BarRow(draw(symbols), minute, *ohlc, volume, vwap, draw(st.integers(0, 10**9)))


prints = st.builds(values.Print, symbols, times, ids, texts, prices, prices, codes, texts)
quotes = st.builds(values.Quote, symbols, times, texts, floats, floats, texts, floats, floats, codes, texts)
corrections = st.builds(values.Correction, symbols, times, texts, sides, sides, texts)
cancels = st.builds(values.Cancel, symbols, times, ids, texts, prices, prices, st.sampled_from(("C", "E")), texts)
statuses = st.builds(values.Status, symbols, times, *[texts] * 5)

messages: st.SearchStrategy[tuple[dict[str, Any], values.Message]] = st.one_of(
    prints.map(lambda item: (wire.build_print(item), item)),
    quotes.map(lambda item: (wire.build_quote(item), item)),
    bars().map(lambda item: (wire.build_bar(item), values.BarEvent("b", item))),
    bars().map(lambda item: (wire.build_bar(item, "u"), values.BarEvent("u", item))),
    corrections.map(lambda item: (wire.build_correction(item), item)),
    cancels.map(lambda item: (wire.build_cancel(item), item)),
    statuses.map(lambda item: (wire.build_status(item), item)),
)


@given(st.lists(messages, max_size=5))
def test_a_frame_reads_back(pairs: list[tuple[dict[str, Any], values.Message]]) -> None:
    frame = wire.build_frame([raw for raw, _ in pairs])
    assert [wire.parse_message(raw) for raw in wire.parse_frame(frame)] == [value for _, value in pairs]


@given(bars(), prints)
def test_rest_rows_read_back(bar: values.BarRow, trade: values.Print) -> None:
    rows = orjson.loads(orjson.dumps([wire.build_bar_row(bar), wire.build_print_row(trade)]))
    assert wire.parse_bar_rows(bar.symbol, rows[:1]) == [bar]
    assert wire.parse_print_rows(trade.symbol, rows[1:]) == [trade]


@given(st.decimals(0, 10**7 - 1, places=8, allow_nan=False))
def test_a_float_is_the_decimal_it_prints(value: Decimal) -> None:
    assert numbers.to_e8(float(value)) == int(value * 10**8)


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_float_is_read_as_it_prints_or_refused(value: float) -> None:
    exact = Decimal(repr(value)) * 10**8
    if exact == int(exact):
        assert numbers.to_e8(value) == int(exact)
    else:
        with pytest.raises(ValueError, match="8 places"):
            numbers.to_e8(value)


def test_times_are_cut_to_microseconds() -> None:
    nanos = wire.build_print(PRINT) | {"t": msgpack.Timestamp(1_709_908_200, 123_456_789)}
    text = wire.build_print(PRINT) | {"t": "2024-03-08T14:30:00.123456789Z"}
    east = wire.build_print(PRINT) | {"t": "2024-03-08T09:30:00.123456789-05:00"}
    assert [wire.parse_message(raw) for raw in (nanos, text, east)] == [PRINT] * 3


def test_a_daily_bar_takes_its_date() -> None:
    rows = [{**wire.build_bar_row(BAR), "t": text} for text in ("2024-03-08T05:00:00Z", "2024-03-11T04:00:00Z")]
    found = wire.parse_bar_rows("AAPL", rows, daily=True)
    assert [numbers.rfc3339(bar.time_ms * 1000) for bar in found] == ["2024-03-08T00:00:00Z", "2024-03-11T00:00:00Z"]


def test_a_bar_becomes_the_exchanges_word() -> None:
    word = BAR.official(7, revised=True)
    assert (word.instrument_id, word.timeframe, word.time_ms, word.revised) == (7, Timeframe.M1, BAR.time_ms, True)
    assert (word.volume, word.quote_volume, word.trade_count) == (Decimal(100), Decimal(115), 3)
    assert word.bar().close == 1.2


def test_the_vendors_models_read_what_the_market_builds() -> None:
    def read(model: Any, raw: dict[str, Any]) -> Any:
        return model(raw["S"], {**raw, "t": raw["t"].to_datetime()})

    side = values.Side(1, 12_655_000_000, 10**8, ("@",))
    quote = values.Quote("AAPL", TIME_US, "V", 1.5, 3, "Q", 1.6, 4, ("R",), "C")
    assert read(Trade, wire.build_print(PRINT)).price == 126.55
    assert read(Quote, wire.build_quote(quote)).ask_price == 1.6
    assert read(Bar, wire.build_bar(BAR)).vwap == 1.15
    correction = values.Correction("AAPL", TIME_US, "V", side, side._replace(id=2), "C")
    assert read(TradeCorrection, wire.build_correction(correction)).corrected_id == 2
    cancel = values.Cancel("AAPL", TIME_US, 1, "V", 10**8, 10**8, "C", "C")
    assert read(TradeCancel, wire.build_cancel(cancel)).action == "C"
    status = values.Status("AAPL", TIME_US, "H", "Trading Halt", "T12", "For information", "C")
    assert read(TradingStatus, wire.build_status(status)).reason_code == "T12"


def test_control_messages_read_back() -> None:
    assert wire.parse_message(wire.build_success("connected")) == values.Success("connected")
    assert wire.parse_message(wire.build_error(402, "auth failed")) == values.Refusal(402, "auth failed")
    told = wire.parse_message(wire.build_subscription({"trades": ["AAPL"]}))
    assert isinstance(told, values.Subscription)
    assert told.channels["trades"] == ("AAPL",) and told.channels["corrections"] == ()
    assert wire.parse_message({"T": "l", "S": "AAPL"}) == values.Other("l")
    asset = values.Asset("AAPL", "Apple Inc.", "NASDAQ", "active", True)
    assert wire.parse_asset(wire.build_asset(asset)) == asset


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x92\x81", b"{}", msgpack.packb({"T": "t"}), msgpack.packb([1])])
def test_a_frame_that_is_none_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        wire.parse_frame(frame)


@pytest.mark.parametrize(
    "change",
    [
        {"p": -1.0}, {"p": 0}, {"p": "1"}, {"p": None}, {"p": float("nan")}, {"p": float("inf")}, {"p": True},
        {"p": 1e-9}, {"s": -1}, {"t": 5}, {"t": "yesterday"}, {"t": "2024-03-08T14:30:00"}, {"i": "x"}, {"i": 1.5},
        {"c": 7}, {"S": None}, {"t": msgpack.Timestamp(2**60, 0)}, {"x": 5}, {"p": 1e308},
    ],
)  # fmt: skip
def test_a_broken_print_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="does not document"):
        wire.parse_message(wire.build_print(PRINT) | change)


@pytest.mark.parametrize("raw", [None, 7, [], {}, {"T": []}, {"T": "t"}, {"T": "error", "code": "402", "msg": "x"}])
def test_what_is_no_message_is_refused(raw: Any) -> None:
    with pytest.raises(WireError):
        wire.parse_message(raw)


@pytest.mark.parametrize("change", [{"l": 1.25}, {"h": 1.1}, {"o": 0}, {"v": -1}, {"n": 1.5}, {"t": None}])
def test_a_bar_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        wire.parse_bar_rows("AAPL", [wire.build_bar_row(BAR) | change])
