"""TradingView's UDF over the real application and a real database, asked as its charting library asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.cache.keys import QUOTES
from app.config import Settings
from app.domain.bars import State
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.services.clock import wall_us
from app.storage import catalog, sessions
from tests.integration.web_data import bar, store
from tests.udf_client import UdfClient, UdfError
from webapp import create_app
from webapp.udf import _quote

HOUR_MS = 60 * MINUTE_MS
NOW_MS = wall_us() // 1000
TODAY_MS = NOW_MS // DAY_MS * DAY_MS
MONDAY_MS = TODAY_MS - ((TODAY_MS // DAY_MS + 3) % 7) * DAY_MS - 14 * DAY_MS
"""A Monday two weeks ago: whole weeks of sessions, whenever the test runs."""
START_MS = TODAY_MS - 10 * DAY_MS
END_S = (START_MS + 9 * DAY_MS) // 1000
STRETCHES = ((0, 50), (3 * 1440, 120), (7 * 1440 + 5, 61))  # first minute and how many: two gaps between


@pytest.fixture(scope="module")
def http(settings: Settings, engine: sa.Engine) -> Iterator[FlaskClient]:
    with engine.begin() as conn:
        sessions.put(conn, "XNYS", week := _week("America/New_York", (9, 30), (16, 0), half=2))
        sessions.put(conn, "XIST", _week("Europe/Istanbul", (10, 0), (18, 0), half=None))
        btc, aapl = catalog.find(conn, "BTC/USDT"), catalog.find(conn, "AAPL")
    minutes = [START_MS + (first + i) * MINUTE_MS for first, count in STRETCHES for i in range(count)]
    store(engine, [bar(btc.id, time_ms, price=100 + i / 100) for i, time_ms in enumerate(minutes)])
    hours = sorted({time_ms - time_ms % HOUR_MS for time_ms in minutes})
    store(engine, [bar(btc.id, time_ms, minutes=60) for time_ms in hours[:-1]], tf=Timeframe.H1)
    store(engine, [bar(aapl.id, week[0].open_ms + i * MINUTE_MS, state=State.VERIFIED) for i in range(390)])
    store(engine, [bar(aapl.id, MONDAY_MS + i * DAY_MS, minutes=1440) for i in (0, 1, 2, 4)], tf=Timeframe.D1)
    app = create_app(settings)
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


def _week(zone: str, opens: tuple[int, int], closes: tuple[int, int], *, half: int | None) -> list[Session]:
    """Three weeks of sessions, by the zone's clocks: Thursday of the first is a holiday; `half` has an early close."""
    found = []
    for day in range(19):
        date_ms = MONDAY_MS + day * DAY_MS
        if day % 7 > 4 or day == 3:
            continue
        date = datetime.fromtimestamp(date_ms / 1000, UTC)
        open_ms, close_ms = (
            int(datetime(date.year, date.month, date.day, *at, tzinfo=ZoneInfo(zone)).timestamp() * 1000)
            for at in (opens, closes)
        )
        found.append(Session(date_ms, open_ms, close_ms - (3 * HOUR_MS if day == half else 0)))
    return found


@pytest.fixture
def client(http: FlaskClient) -> UdfClient:
    def get(address: str) -> tuple[int, str]:
        answer = http.get(address)
        return answer.status_code, answer.text

    return UdfClient(get)


def test_a_chart_scrolls_back_to_its_first_bar(client: UdfClient) -> None:
    info = client.resolve("BINANCE:BTC/USDT")
    bars = client.all_by_count(info, "1", end_s=END_S, count=40)
    expected = [(START_MS + (first + i) * MINUTE_MS) // 1000 for first, count in STRETCHES for i in range(count)]
    assert [each[0] for each in bars] == expected
    assert bars[0] == (START_MS // 1000, 100.0, 102.0, 99.0, 101.0, 1.5)
    assert client.all_by_range(info, "1", end_s=END_S, span_s=6 * 3600) == (bars, 3)


def test_a_page_has_exactly_the_bars_asked_for(client: UdfClient) -> None:
    info = client.resolve("binance:BTC/USDT")
    start_s = START_MS // 1000
    page = client.history(info, "1", start_s=start_s + 60, end_s=start_s + 180)
    assert [each[0] - start_s for each in page.bars] == [60, 120]
    later = (START_MS + 3 * DAY_MS) // 1000
    page = client.history(info, "1", start_s=later, end_s=later + 300, count=8)
    assert len(page.bars) == 8, "countback goes before from"
    assert page.bars[0][0] < start_s + 3600, "and across the gap"
    before = client.history(info, "1", start_s=0, end_s=start_s)
    assert (before.no_data, before.next_time) == (True, None)
    assert client.history(info, "1", start_s=-5_000_000_000, end_s=start_s + 60).bars, "before 1970 is nothing new"


def test_the_live_bar_is_there(client: UdfClient, engine: sa.Engine) -> None:
    with engine.begin() as conn:
        eth = catalog.find(conn, "ETH/USDT")
    hour = NOW_MS - NOW_MS % HOUR_MS
    store(engine, [bar(eth.id, hour - HOUR_MS, minutes=60)], tf=Timeframe.H1)
    store(engine, [bar(eth.id, hour + i * MINUTE_MS, price=200.0, state=State.OPEN) for i in range(3)])
    page = client.history(client.resolve("ETH-USDT"), "60", start_s=0, end_s=hour // 1000 + 3600, count=2)
    assert [each[0] for each in page.bars] == [hour // 1000 - 3600, hour // 1000]
    assert page.bars[-1][1:] == (200.0, 202.0, 199.0, 201.0, 4.5)


def test_a_stock_has_its_exchanges_hours(client: UdfClient) -> None:
    info = client.resolve("AAPL")
    assert info["timezone"] == "America/New_York"
    assert len(info["session"]) == len("0930-1600")
    assert info["session_holidays"] == _date(3)
    assert info["corrections"].endswith(f":{_date(2)}")
    assert info["corrections"].count(":") == 1
    istanbul = client.resolve("Borsa Istanbul:THYAO.IS")
    assert (istanbul["timezone"], istanbul["session"]) == ("Europe/Istanbul", "0940-1810"), "with the auctions"
    assert (istanbul["data_status"], istanbul["delay"]) == ("delayed_streaming", 900)
    crypto = client.resolve("BTC-USDT")
    assert (crypto["timezone"], crypto["session"], crypto["session_holidays"]) == ("Etc/UTC", "24x7", "")
    assert crypto["pricescale"] == 100


def test_daily_bars_of_a_stock_stand_at_midnight_utc(client: UdfClient) -> None:
    info = client.resolve("ALPACA:AAPL")
    for name in ("1D", "D"):
        page = client.history(info, name, start_s=MONDAY_MS // 1000, end_s=NOW_MS // 1000, count=10)
        days = [each[0] for each in page.bars]
        assert [day % 86_400 for day in days] == [0] * len(days)
        assert [(day * 1000 - MONDAY_MS) // DAY_MS for day in days][:4] == [0, 1, 2, 4]
    saturday = (MONDAY_MS + 5 * DAY_MS) // 1000
    closed = client.history(info, "1", start_s=saturday, end_s=saturday + 86_400)
    assert (closed.no_data, closed.next_time) == (
        True,
        _week("America/New_York", (9, 30), (16, 0), half=2)[0].close_ms // 1000 - 60,
    )


def test_symbols_are_found(client: UdfClient) -> None:
    assert [each["ticker"] for each in client.search("btc")] == ["binance:BTC/USDT"]
    assert [each["ticker"] for each in client.search("btcusdt")] == ["binance:BTC/USDT"]
    assert {each["exchange"] for each in client.search("", exchange="yahoo")} == {"Borsa Istanbul"}
    assert {each["type"] for each in client.search("a", kind="stock")} == {"stock"}
    assert len(client.search("", limit=3)) == 3
    assert client.search("\x00") == client.search("")
    assert client.search("nothing like it") == []
    for each in client.search(""):
        assert client.resolve(each["ticker"])["full_name"] == each["full_name"]
    rows = client.group("binance")
    assert {row["symbol"] for row in rows} >= {"BTC/USDT", "ADA/USDT"}
    assert all(row["session-regular"] == "24x7" for row in rows)
    assert len(client.group()) > len(rows)


def test_quotes_tell_what_is_known(client: UdfClient, redis_client: redis.Redis) -> None:
    redis_client.hset(QUOTES, "binance:BTC/USDT", json.dumps({"price": 123.45, "time": NOW_MS}))
    told = client.quotes("binance:BTC/USDT", "NASDAQ:NOPE", "AAPL")
    assert told["binance:BTC/USDT"]["s"] == "ok"
    assert told["binance:BTC/USDT"]["v"]["lp"] == 123.45
    assert told["binance:BTC/USDT"]["v"]["exchange"] == "Binance"
    assert told["NASDAQ:NOPE"]["s"] == "error"
    assert told["AAPL"]["v"]["short_name"] == "AAPL"


def test_a_price_that_fell_to_nothing_breaks_no_quote(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        eth = catalog.find(conn, "ETH/USDT", "binance")
    row = {"price": 1e-8, "change_24h": -100.0, "high_24h": 100.0, "low_24h": 1e-8, "volume_24h": 1.0, "book": None}
    told = _quote(eth, row)
    assert (told["lp"], told["chp"]) == (1e-8, -100.0)
    assert "prev_close_price" not in told


def test_the_clock_is_the_exchanges(client: UdfClient) -> None:
    assert abs(client.time() - wall_us() // 1_000_000) < 60


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("/udf/symbols?symbol=NOPE", 404, "unknown symbol"),
        ("/udf/symbols?symbol=NASDAQ:AAPL", 404, "unknown exchange"),
        ("/udf/symbols?symbol=%00", 404, "unknown symbol"),
        ("/udf/symbols", 400, "symbol"),
        ("/udf/history?symbol=AAPL&resolution=7", 400, "resolution"),
        ("/udf/history?symbol=AAPL&resolution=1&from=x", 400, "from"),
        ("/udf/history?symbol=AAPL&resolution=1&countback=-1", 400, "countback"),
        ("/udf/quotes?symbols=" + ",".join(map(str, range(200))), 400, "symbols"),
        ("/udf/nothing", 404, "not_found"),
    ],
)
def test_errors_have_the_protocols_shape(http: FlaskClient, address: str, status: int, says: str) -> None:
    answer = http.get(address)
    assert answer.status_code == status
    assert answer.get_json()["s"] == "error"
    assert says in answer.get_json()["errmsg"]


def test_a_client_is_told_why(client: UdfClient) -> None:
    with pytest.raises(UdfError, match="unknown_symbol"):
        client.resolve("NOPE")


def test_nothing_is_written_here(http: FlaskClient) -> None:
    assert http.post("/udf/config").status_code == 405


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp((MONDAY_MS + day * DAY_MS) / 1000, UTC):%Y%m%d}"
