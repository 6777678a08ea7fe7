"""Binance's wire codec: what the market builds, the clients parse back."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.bars import Origin, State
from app.domain.official import OfficialBar
from app.domain.timeframes import Timeframe
from app.domain.trades import Trade, e8
from app.errors import WireError
from app.wire import binance as wire
from app.wire import binance_history as history

IDS = {"BTCUSDT": 3}
TRADE = Trade(3, 1_700_000_000_123_000, 77, 77, e8("67000.01"), e8("0.00500"), True)
KLINE = wire.WireKline(
    "BTCUSDT",
    "5m",
    1_700_000_100_000,
    1_700_000_399_999,
    100,
    300,
    50,
    200,
    10**9,
    15 * 10**15,
    4 * 10**8,
    7 * 10**15,
    9,
    11,
    19,
)


def test_documented_trade_event_is_read() -> None:
    """The example of Binance's own documentation, in a combined stream."""
    event = wire.parse_stream(
        '{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",'
        '"T":1672515782136,"m":true,"M":true}}',
        {"BNBBTC": 9},
    )
    assert event == wire.TradeEvent(
        Trade(9, 1_672_515_782_136_000, 12345, 12345, 100_000, 10**10, False), 1_672_515_782_136_000
    )


@given(
    time_ms=st.integers(10**12, 2 * 10**12),
    number=st.integers(0, 2**53),
    price=st.integers(1, 10**17),
    size=st.integers(0, 10**17),
    taker_buy=st.booleans(),
)
def test_trade_events_round_trip(time_ms: int, number: int, price: int, size: int, taker_buy: bool) -> None:
    """Every trade comes back as it was, to the last decimal."""
    trade = Trade(3, time_ms * 1000, number, number, price, size, taker_buy)
    frame = wire.build_trade_event("BTCUSDT", trade, event_ms=time_ms + 4)
    assert wire.parse_stream(frame, IDS) == wire.TradeEvent(trade, (time_ms + 4) * 1000)


def test_microseconds_are_told_by_their_size() -> None:
    """A stream asked for with timeUnit=MICROSECOND gives the same trade, with finer time."""
    body = orjson.loads(wire.build_trade_event("BTCUSDT", TRADE, event_ms=1_700_000_000_124))
    body |= {"T": 1_700_000_000_123_456, "E": 1_700_000_000_124_000}
    event = wire.parse_stream(orjson.dumps(body), IDS)
    assert isinstance(event, wire.TradeEvent)
    assert (event.trade.time_us, event.event_us) == (1_700_000_000_123_456, 1_700_000_000_124_000)


@pytest.mark.parametrize("closed", [True, False])
def test_kline_event_round_trips(closed: bool) -> None:
    """A kline is the exchange's own bar, with its ids and exact sums; an unfinished one is told by its bytes."""
    frame = wire.build_kline_event(KLINE, event_ms=1_700_000_400_001, closed=closed)
    event = wire.parse_stream(frame, IDS)
    sums = (Decimal(10), Decimal("1.5"), Decimal(4))
    bar = OfficialBar(3, Timeframe.M5, 1_700_000_100_000, 1e-6, 3e-6, 5e-7, 2e-6, *sums, 9, 11, 19)
    assert event == wire.KlineEvent(bar, closed, 1_700_000_400_001_000)
    assert wire.unfinished(frame) is not closed
    assert wire.unfinished(b'{"stream":"btcusdt@kline_5m","data":' + frame + b"}") is not closed


def test_only_unfinished_klines_are_passed_over_unread() -> None:
    """Neither a trade nor an answer is taken for one."""
    assert not wire.unfinished(wire.build_trade_event("BTCUSDT", TRADE, event_ms=1))
    assert not wire.unfinished(b'{"result":null,"id":4}')
    assert not wire.unfinished(b'{"result":["btcusdt@kline_1m"],"id":4}')
    assert not wire.unfinished(wire.build_shutdown(event_ms=1))


def test_kline_rows_round_trip() -> None:
    """A row of history is the same bar, verified, without ids."""
    (bar,) = history.parse_klines(orjson.loads(orjson.dumps([history.build_kline_row(KLINE)])), 3)
    assert (bar.time_ms, bar.state, bar.origin, bar.revision) == (KLINE.open_ms, State.VERIFIED, Origin.EXCHANGE, 0)
    assert (bar.open_time, bar.open_seq) == (1_700_000_100_000_000, 0)
    assert (bar.close_time, bar.close_seq) == (1_700_000_399_999_999, 0)
    assert (bar.volume, bar.quote_volume, bar.taker_buy_volume) == (Decimal(10), Decimal("1.5"), Decimal(4))


def test_flat_kline_has_no_ids() -> None:
    """A quiet minute's kline says -1 for its ids; the bar has none."""
    flat = KLINE._replace(trades=0, first_id=-1, last_id=-1)
    event = wire.parse_stream(wire.build_kline_event(flat, event_ms=1, closed=True), IDS)
    assert isinstance(event, wire.KlineEvent)
    assert (event.bar.trade_count, event.bar.first_id, event.bar.last_id) == (0, None, None)


def test_answers_and_refusals_are_told_apart() -> None:
    """Replies to requests come back with their numbers."""
    assert wire.parse_stream('{"result":null,"id":4}', IDS) == wire.Ack(4, None)
    refusal = wire.parse_stream('{"error":{"code":2,"msg":"Invalid request"},"id":5}', IDS)
    assert refusal == wire.Refusal(5, 2, "Invalid request")
    assert wire.parse_stream('{"code":3,"msg":"Invalid JSON"}', IDS) == wire.Refusal(None, 3, "Invalid JSON")


def test_unasked_events_are_named_not_dropped() -> None:
    """A symbol that was just unsubscribed, or another kind of event, is Other: the caller counts it."""
    frame = wire.build_trade_event("ETHUSDT", TRADE, event_ms=1_700_000_000_124)
    assert wire.parse_stream(frame, IDS) == wire.Other("trade", "ETHUSDT", 1_700_000_000_124_000)
    other = wire.parse_stream('{"e":"balanceUpdate","E":1700000000124}', IDS)
    assert other == wire.Other("balanceUpdate", "", 1_700_000_000_124_000)
    kline = wire.build_kline_event(KLINE._replace(symbol="ETHUSDT"), event_ms=2, closed=True)
    assert wire.parse_stream(kline, IDS) == wire.Other("kline", "ETHUSDT", 2000)


@pytest.mark.parametrize("frame", [b"%b", b'{"stream":"","data":%b}'])
def test_a_shutdown_is_announced(frame: bytes) -> None:
    """The documented event, plain or in a combined stream."""
    event = wire.parse_stream(frame % b'{"e":"serverShutdown","E":1770123456789}', IDS)
    assert event == wire.Shutdown(1_770_123_456_789_000)
    assert wire.parse_stream(frame % wire.build_shutdown(event_ms=1_770_123_456_789), IDS) == event


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "nonsense",
        "[1,2]",
        "{}",
        '{"data":5}',
        '{"e":"trade","s":"BTCUSDT"}',
        '{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"-1","q":"1","T":1,"m":true}',
        '{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1e5","q":"1","T":1,"m":true}',
        '{"e":"kline","E":1,"s":"BTCUSDT","k":{"i":"1m"}}',
        wire.build_kline_event(KLINE, event_ms=1, closed=True).decode().replace('"x":true', '"x":"true"'),
        wire.build_kline_event(KLINE, event_ms=1, closed=True).decode().replace('"o":"', '"o":"nan'),
        '{"e":"serverShutdown"}',
    ],
)
def test_anything_else_is_a_wire_error(frame: str) -> None:
    """Undocumented bytes raise WireError, which quotes them."""
    with pytest.raises(WireError, match="does not document"):
        wire.parse_stream(frame, IDS)


def test_bad_kline_rows_are_a_wire_error() -> None:
    """So do undocumented rows of history."""
    with pytest.raises(WireError):
        history.parse_klines([[1, "2"]], 3)


def test_requests_are_as_documented() -> None:
    """SUBSCRIBE and UNSUBSCRIBE in the documented shape, with documented stream names."""
    streams = [wire.trade_stream("BTCUSDT"), wire.kline_stream("BTCUSDT", Timeframe.M1)]
    assert orjson.loads(wire.build_subscribe(streams, 1)) == {
        "method": "SUBSCRIBE",
        "params": ["btcusdt@trade", "btcusdt@kline_1m"],
        "id": 1,
    }
    assert orjson.loads(wire.build_unsubscribe(streams[:1], 2))["method"] == "UNSUBSCRIBE"


def test_quote_sums_round_half_to_even() -> None:
    """16 places become 8 as Python's decimal rounds them."""
    for units in (0, 5 * 10**7, 15 * 10**7, 15 * 10**7 + 1, 10**16, 123456789012345678901):
        assert Decimal(wire.text_e16(units)) == round(Decimal(units).scaleb(-16), 8)
