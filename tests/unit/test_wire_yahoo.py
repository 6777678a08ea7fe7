"""Yahoo's chart JSON: what is built is read back; what is broken is a WireError, never a wrong bar."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.yahoo_markets import MARKETS, market_of
from app.errors import BadInput, WireError
from app.wire.yahoo import Chart, Meta, Period, Refusal, Row, build_chart, build_refusal, parse_chart

META = Meta(
    "THYAO.IS", "TRY", "IST", "Istanbul", "TURK HAVA YOLLARI", "Europe/Istanbul", 10_800, 2, 305.25, 1_793_258_400,
    Period(1_793_256_000, 1_793_286_000),
)  # fmt: skip

# Written by hand in the shape that yfinance reads: nulls for a quiet minute, the unfinished minute last under the time
# of its last trade, prices with the noise of 32-bit floats.
BY_HAND = b"""{"chart":{"result":[{"meta":{"currency":"TRY","symbol":"THYAO.IS","exchangeName":"IST",
"fullExchangeName":"Istanbul","instrumentType":"EQUITY","firstTradeDate":958022400,"regularMarketTime":1709550123,
"hasPrePostMarketData":false,"gmtoffset":10800,"timezone":"TRT","exchangeTimezoneName":"Europe/Istanbul",
"regularMarketPrice":305.25,"longName":"T\xc3\xbcrk Hava Yollari A.O.","shortName":"TURK HAVA YOLLARI","priceHint":2,
"currentTradingPeriod":{"pre":{"timezone":"TRT","end":1709535300,"start":1709535300,"gmtoffset":10800},
"regular":{"timezone":"TRT","end":1709565000,"start":1709535300,"gmtoffset":10800},
"post":{"timezone":"TRT","end":1709565000,"start":1709565000,"gmtoffset":10800}},
"dataGranularity":"1m","range":"","validRanges":["1d","5d","1mo","max"]},
"timestamp":[1709550000,1709550060,1709550123],"indicators":{"quote":[{"open":[305.0,null,305.25],
"high":[305.5,null,305.25],"low":[304.75,null,305.25],"close":[305.2500061,null,305.25],
"volume":[12345,null,0]}]}}],"error":null}}"""


def test_an_answer_is_read() -> None:
    chart = parse_chart(BY_HAND)
    assert isinstance(chart, Chart)
    assert (chart.meta.symbol, chart.meta.currency, chart.meta.exchange) == ("THYAO.IS", "TRY", "IST")
    assert chart.meta.name == "Türk Hava Yollari A.O."
    assert chart.meta.period == Period(1_709_535_300, 1_709_565_000)
    assert chart.rows[0] == Row(1_709_550_000, 305.0, 305.5, 304.75, 305.2500061, 12_345)
    assert chart.rows[1] == Row(1_709_550_060, None, None, None, None, None)
    assert chart.rows[2].time_s % 60


_price = st.none() | st.floats(0.01, 1e6)
_rows = st.lists(
    st.builds(Row, st.integers(0, 4_000_000_000), _price, _price, _price, _price, st.none() | st.integers(0, 10**12)),
    max_size=20,
)


@given(_rows, st.sampled_from(["1m", "5m", "1d"]))
def test_what_is_built_is_read_back(rows: list[Row], interval: str) -> None:
    body = orjson.dumps(build_chart(META, rows, interval=interval, periods=[Period(1, 2)]))
    assert parse_chart(body) == Chart(META, rows)


def test_a_refusal_is_yahoos_own_word() -> None:
    refusal = Refusal("Not Found", "No data found, symbol may be delisted")
    assert parse_chart(orjson.dumps(build_refusal(*refusal))) == refusal
    assert parse_chart(
        b'{"finance":{"result":null,"error":{"code":"Unauthorized","description":"Invalid Crumb"}}}'
    ) == (Refusal("Unauthorized", "Invalid Crumb"))


@pytest.mark.parametrize("cut", [1, 100, 700, len(BY_HAND) - 40])
def test_a_truncated_answer_is_refused(cut: int) -> None:
    with pytest.raises(WireError, match="no chart"):
        parse_chart(BY_HAND[:cut])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>Will be right back</html>",
        b'{"chart":{"result":null,"error":null}}',
        b'{"chart":{"result":[],"error":null}}',
        BY_HAND.replace(b"[12345,null,0]", b"[12345]"),
        BY_HAND.replace(b"[305.0,null,305.25]", b'["x",null,305.25]'),
        BY_HAND.replace(b'"exchangeTimezoneName":"Europe/Istanbul",', b""),
    ],
)
def test_what_is_no_chart_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_chart(body)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_chart(body)


@pytest.mark.parametrize(
    ("symbol", "market"),
    [
        ("THYAO.IS", ("XIST", "TRY")),
        ("AAPL", ("XNYS", "USD")),
        ("BRK-B", ("XNYS", "USD")),
        ("vod.l", ("XLON", "GBP")),
        ("SAP.DE", ("XETR", "EUR")),
        ("AIR.PA", ("XPAR", "EUR")),
        ("7203.T", ("XTKS", "JPY")),
        ("0700.HK", ("XHKG", "HKD")),
        ("SHOP.TO", ("XTSE", "CAD")),
        ("BHP.AX", ("XASX", "AUD")),
        ("NESN.SW", ("XSWX", "CHF")),
        ("ENI.MI", ("XMIL", "EUR")),
        ("ASML.AS", ("XAMS", "EUR")),
        ("SAN.MC", ("XMAD", "EUR")),
    ],
)
def test_the_suffix_names_calendar_and_currency(symbol: str, market: tuple[str, str]) -> None:
    assert market_of(symbol) == market


@pytest.mark.parametrize("symbol", ["X.ZZ", ".IS", "A."])
def test_an_unknown_suffix_is_named(symbol: str) -> None:
    with pytest.raises(BadInput, match=r"suffix \."):
        market_of(symbol)


def test_every_currency_is_a_code() -> None:
    assert all(len(currency) == 3 and currency.isupper() for _, currency in MARKETS.values())
