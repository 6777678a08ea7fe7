"""The simulated Alpaca's REST is faithful: alpaca-py's own clients run against it with another URL, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from alpaca.common.enums import Sort
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest, StockLatestTradeRequest, StockTradesRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient

from tests.sandbox import RunningSandbox, start_sandbox

NEW_YORK = ZoneInfo("America/New_York")
KEYS = {"APCA-API-KEY-ID": "rest", "APCA-API-SECRET-KEY": "secret"}
START = "2026-11-30T16:00"  # a Monday, 11:00 in New York


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A market whose clock waits, with history over holidays, half days and both changes of daylight saving."""
    with start_sandbox(
        symbols="BTC/USDT", stocks="AAPL,META,IBM,THYAO.IS", start=START, history_hours=24 * 290, paused=True,
        alpaca_limit=10_000, stock_rate=0.5,
    ) as sandbox:  # fmt: skip
        yield sandbox


@pytest.fixture
def client(sandbox: RunningSandbox) -> StockHistoricalDataClient:
    """The vendor's client, rows as they come."""
    return StockHistoricalDataClient("rest", "secret", raw_data=True, url_override=sandbox.url)


def _ask(
    sandbox: RunningSandbox, path: str, *, headers: dict[str, str] | None = None, **query: Any
) -> requests.Response:
    return requests.get(sandbox.url + path, params=query, headers=KEYS if headers is None else headers, timeout=30)


def _bars(
    client: StockHistoricalDataClient,
    symbol: str,
    lo: str,
    hi: str,
    timeframe: TimeFrame = TimeFrame.Minute,
    **more: Any,
) -> list[dict[str, Any]]:
    start, end = (datetime.fromisoformat(time).replace(tzinfo=NEW_YORK) for time in (lo, hi))
    found = client.get_stock_bars(
        StockBarsRequest(symbol_or_symbols=symbol, timeframe=timeframe, start=start, end=end, **more)
    )
    assert isinstance(found, dict)
    rows: list[dict[str, Any]] = found.get(symbol, [])
    return rows


def _local(row: dict[str, Any]) -> str:
    return datetime.fromisoformat(row["t"]).astimezone(NEW_YORK).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("timeframe", "name"),
    [
        (TimeFrame.Minute, "1m"),
        (TimeFrame(5, TimeFrameUnit.Minute), "5m"),
        (TimeFrame(15, TimeFrameUnit.Minute), "15m"),
        (TimeFrame.Hour, "1h"),
        (TimeFrame(4, TimeFrameUnit.Hour), "4h"),
        (TimeFrame.Day, "1d"),
    ],
)
def test_bars_equal_the_truth(
    sandbox: RunningSandbox, client: StockHistoricalDataClient, timeframe: TimeFrame, name: str
) -> None:
    """Every field of every bar, of a busy and of a thin stock; days are labelled with New York's midnight."""
    lo, hi = "2026-11-18T00:00", "2026-11-20T00:00"
    for symbol in ("AAPL", "META"):
        rows = _bars(client, symbol, lo, hi, timeframe)
        start, end = (round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) for day in (lo, hi))
        margin = 0 if name == "1d" else 5 * 3_600_000
        path = f"/sandbox/truth?exchange=alpaca&symbol={symbol}&timeframe={name}&extended=1"
        true = sandbox.get(f"{path}&start={start + margin}&end={end + margin + (1 if name != '1d' else 86_400_000)}")[
            "bars"
        ]
        assert [(row["o"], row["h"], row["l"], row["c"], row["v"], row["n"]) for row in rows] == [
            (*(float(bar[field]) for field in ("open", "high", "low", "close")), int(bar["volume"]), bar["trade_count"])
            for bar in true[: len(rows)]
        ]
        assert 0 <= len(true) - len(rows) <= 1  # the last day's label lies behind the end
        for row, bar in zip(rows, true, strict=False):
            assert abs(row["vw"] - float(bar["quote_volume"]) / float(bar["volume"])) < 1e-6
            told = datetime.fromisoformat(row["t"])
            assert _local(row)[11:] == "00:00" if name == "1d" else told.timestamp() * 1000 == bar["time"]
        assert len({row["t"] for row in rows}) == len(rows) >= 2


def test_hours_of_holidays_half_days_and_daylight_saving(client: StockHistoricalDataClient) -> None:
    """Regular minutes lie between 09:30 and 16:00 New York time on either side of a change, none on a holiday."""
    days = {
        "2026-11-27": ("09:30", "12:59"),  # the Friday after Thanksgiving
        "2026-10-30": ("09:30", "15:59"),
        "2026-11-02": ("09:30", "15:59"),
        "2026-03-06": ("09:30", "15:59"),
        "2026-03-09": ("09:30", "15:59"),
    }
    for day, (first, last) in days.items():
        regular = [_local(row)[11:] for row in _bars(client, "AAPL", f"{day}T{first}", f"{day}T{last}")]
        every = [_local(row)[11:] for row in _bars(client, "AAPL", f"{day}T00:00", f"{day}T23:59")]
        assert (regular[0], regular[-1]) == (first, last) and len(regular) > 150
        around = sorted({*every} - {*regular})  # a few prints before and after
        assert 2 <= len(around) <= 24 and around[0] >= "04:00" and around[-1] < "20:00"
    assert _bars(client, "AAPL", "2026-11-26T00:00", "2026-11-26T23:59") == []  # Thanksgiving
    assert _bars(client, "AAPL", "2026-11-28T00:00", "2026-11-29T23:59") == []  # a weekend
    daily = [_local(row) for row in _bars(client, "AAPL", "2026-11-20T00:00", "2026-11-30T23:59", TimeFrame.Day)]
    assert daily == [f"2026-11-{day} 00:00" for day in (20, 23, 24, 25, 27)]  # today's is not over


def test_a_page_follows_the_other(sandbox: RunningSandbox, client: StockHistoricalDataClient) -> None:
    """Several symbols, small pages, either direction: the same rows in the same order as one large page has."""
    query = {
        "symbols": "META,AAPL,IBM",
        "timeframe": "1Min",
        "start": "2026-11-25T14:00:00Z",
        "end": "2026-11-25T16:00:00Z",
    }
    for sort in ("asc", "desc"):
        whole = _ask(sandbox, "/v2/stocks/bars", **query, sort=sort, limit=10_000).json()
        assert whole["next_page_token"] is None and list(whole["bars"]) == ["AAPL", "IBM", "META"]
        times = [row["t"] for row in whole["bars"]["AAPL"]]
        assert times == sorted(times, reverse=sort == "desc") and len(times) > 80
        pages: dict[str, list[Any]] = {}
        token = None
        for _ in range(100):
            page = _ask(sandbox, "/v2/stocks/bars", **query, sort=sort, limit=7, page_token=token).json()
            assert 0 < sum(map(len, page["bars"].values())) <= 7
            for symbol, rows in page["bars"].items():
                pages.setdefault(symbol, []).extend(rows)
            if (token := page["next_page_token"]) is None:
                break
        assert pages == whole["bars"]
    default = _ask(sandbox, "/v2/stocks/AAPL/bars", timeframe="1Min", start="2026-11-19T00:00:00Z").json()
    assert len(default["bars"]) == 1000 and default["symbol"] == "AAPL" and default["next_page_token"]
    newest = _bars(client, "AAPL", "2026-11-24T00:00", "2026-11-25T23:59", limit=10, sort=Sort.DESC)
    assert len(newest) == 10 and newest[0]["t"] > newest[-1]["t"]


def test_trades_page_and_say_what_became_of_them(sandbox: RunningSandbox, client: StockHistoricalDataClient) -> None:
    """All trades of two hours in pages; times rise, nothing is told of what has not happened yet."""
    start, end = datetime(2026, 11, 30, 14, 30, tzinfo=UTC), datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    rows = client.get_stock_trades(StockTradesRequest(symbol_or_symbols="AAPL", start=start, end=end))["AAPL"]
    assert set(rows[0]) == {"i", "x", "p", "s", "c", "z", "t"} and rows[0]["c"] == ["@", "O"]
    times = [datetime.fromisoformat(row["t"]) for row in rows]
    assert times == sorted(times) and times[-1] < datetime(2026, 11, 30, 16, 0, tzinfo=UTC)
    query = {"start": "2026-11-30T14:30:00Z", "end": "2026-11-30T15:00:00Z"}
    token, paged = None, []
    for _ in range(200):
        page = _ask(sandbox, "/v2/stocks/AAPL/trades", **query, limit=50, page_token=token).json()
        paged += page["trades"]
        if (token := page["next_page_token"]) is None:
            break
    assert paged == [row for row, time in zip(rows, times, strict=True) if time.hour == 14]
    iex = StockTradesRequest(symbol_or_symbols="AAPL", start=start, end=end, limit=5, feed=DataFeed.IEX)
    assert {row["x"] for row in client.get_stock_trades(iex)["AAPL"]} == {"V"}
    latest = client.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="AAPL"))["AAPL"]
    assert latest == rows[-1]
    [first] = [row for row in rows if row["i"] == rows[10]["i"]]
    sandbox.post("/sandbox/cancel", {"symbol": "AAPL", "id": rows[10]["i"]})
    fixed = sandbox.post("/sandbox/correct", {"symbol": "AAPL", "id": rows[11]["i"], "price": "7", "quantity": "100"})
    again = client.get_stock_trades(StockTradesRequest(symbol_or_symbols="AAPL", start=start, end=times[20]))["AAPL"]
    marked = {row["i"]: row["u"] for row in again if "u" in row}
    assert marked == {first["i"]: "canceled", rows[11]["i"]: "incorrect", fixed["id"]: "corrected"}


def test_what_changed_is_changed_in_history_from_then_on(
    sandbox: RunningSandbox, client: StockHistoricalDataClient
) -> None:
    """A late print of yesterday's hours and its cancel: minute, hour and day follow, and come back."""

    def told() -> list[list[dict[str, Any]]]:
        frames = (TimeFrame.Minute, TimeFrame.Hour, TimeFrame.Day)
        return [_bars(client, "IBM", "2026-11-25T00:00", "2026-11-25T23:59", frame) for frame in frames]

    before = told()
    time_us = round(datetime(2026, 11, 25, 15, 30, 10, tzinfo=UTC).timestamp() * 1_000_000)
    body = {"exchange": "alpaca", "symbol": "IBM", "price": "999.99", "quantity": "100", "time_us": time_us}
    late = sandbox.post("/sandbox/trade", body)
    assert all(max(row["h"] for row in rows) == 999.99 for rows in told())
    assert sum(row["v"] for row in told()[2]) == sum(row["v"] for row in before[2]) + 100
    odd = sandbox.post("/sandbox/trade", {**body, "price": "5000", "quantity": "1", "conditions": ["@", "I"]})
    assert all(max(row["h"] for row in rows) == 999.99 for rows in told())  # an odd lot moves no price
    for print_ in (late, odd):
        sandbox.post("/sandbox/cancel", {"symbol": "IBM", "id": print_["id"]})
    assert told() == before


def test_assets(sandbox: RunningSandbox) -> None:
    """The vendor's trading client reads the list, finds a stock and is told of one nobody lists."""
    client = TradingClient("rest", "secret", url_override=sandbox.url)
    asset = client.get_asset("AAPL")
    assert (asset.symbol, asset.exchange, asset.status, asset.tradable) == ("AAPL", "NASDAQ", "active", True)
    assert sorted(one.symbol for one in client.get_all_assets()) == ["AAPL", "IBM", "META"]  # Istanbul's are not its
    for symbol in ("XYZ", "THYAO.IS"):
        with pytest.raises(APIError) as caught:
            client.get_asset(symbol)
        assert (caught.value.status_code, caught.value.code) == (404, 40410000)
        assert caught.value.message == f"asset not found for {symbol}"


def test_refusals(sandbox: RunningSandbox) -> None:
    """Keys that are missing or wrong, a feed that is not paid for, and parameters nobody understands."""
    path, day = "/v2/stocks/AAPL/bars", {"timeframe": "1Min"}
    assert _ask(sandbox, path, headers={}, **day).status_code == 401
    wrong = _ask(sandbox, path, headers={**KEYS, "APCA-API-KEY-ID": "wrong"}, **day)
    assert (wrong.status_code, wrong.json()["message"]) == (403, "forbidden.")
    poor = {**KEYS, "APCA-API-KEY-ID": "nofeed"}
    assert _ask(sandbox, path, headers=poor, **day, feed="sip").status_code == 403
    assert _ask(sandbox, path, headers=poor, **day, feed="iex").status_code == 200
    for bad in (
        {}, {"timeframe": "7Min"}, {"timeframe": "1Week"}, {**day, "limit": "0"}, {**day, "limit": "10001"},
        {**day, "start": "yesterday"}, {**day, "sort": "up"}, {**day, "feed": "fm"}, {**day, "page_token": "%%"},
        {**day, "start": "2026-11-25T00:00:00Z", "end": "2026-11-24T00:00:00Z"},
    ):  # fmt: skip
        answer = _ask(sandbox, path, **bad)
        assert answer.status_code == 400 and answer.json()["message"], bad
    assert _ask(sandbox, "/v2/stocks/aa!/bars", **day).json()["message"] == "invalid symbol: aa!"
    assert _ask(sandbox, "/v2/stocks/bars", symbols="ZZZ", **day).json() == {"bars": {}, "next_page_token": None}
    assert _ask(sandbox, "/v2/stocks/bars", symbols="THYAO.IS", **day).json()["bars"] == {}


def test_requests_are_limited_by_key() -> None:
    """The headers count down; beyond the limit it is 429 for this key and no other."""
    with start_sandbox(symbols="BTC/USDT", stocks="AAPL", alpaca_limit=4, paused=True) as sandbox:
        answers = [_ask(sandbox, "/v2/assets/AAPL") for _ in range(6)]
        if answers[0].headers["X-RateLimit-Reset"] != answers[-1].headers["X-RateLimit-Reset"]:
            answers = [_ask(sandbox, "/v2/assets/AAPL") for _ in range(6)]  # a minute ended between
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["3", "2", "1", "0", "0", "0"]
        assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"4"}
        assert int(answers[-1].headers["X-RateLimit-Reset"]) > datetime.now(UTC).timestamp() - 60
        assert answers[-1].json() == {"code": 42910000, "message": "too many requests."}
        assert _ask(sandbox, "/v2/assets/AAPL", headers={**KEYS, "APCA-API-KEY-ID": "other"}).status_code == 200


def test_the_running_minute_and_day_are_not_listed() -> None:
    """A bar is listed from its end on, not a microsecond before."""
    over = round(datetime(2026, 11, 20, 21, 0, tzinfo=UTC).timestamp() * 1_000_000)  # the close
    with start_sandbox(symbols="BTC/USDT", stocks="AAPL", start="2026-11-20T20:50", paused=True) as sandbox:
        client = StockHistoricalDataClient("rest", "secret", raw_data=True, url_override=sandbox.url)
        for start_us, minute, complete in ((over - 60_000_001, 57, 0), (over - 60_000_000, 58, 0), (over, 59, 1)):
            sandbox.start(start_us=start_us, speed=1e-9)
            rows = _bars(client, "AAPL", "2026-11-20T15:50", "2026-11-20T16:00")
            days = _bars(client, "AAPL", "2026-11-20T00:00", "2026-11-20T23:59", TimeFrame.Day)
            assert (_local(rows[-1]), len(days)) == (f"2026-11-20 15:{minute}", complete)


def test_stocks_on_the_markets_own_door(sandbox: RunningSandbox) -> None:
    """Health lists the stocks, truth serves Yahoo's too, and requests that make no sense are refused."""
    assert sandbox.get("/sandbox/health")["stocks"] == {
        "AAPL": "XNYS", "META": "XNYS", "IBM": "XNYS", "THYAO.IS": "XIST",
    }  # fmt: skip
    noon = round(datetime(2026, 10, 28, tzinfo=UTC).timestamp() * 1000)
    path = "/sandbox/truth?exchange=yahoo&symbol=THYAO.IS&timeframe=1d"
    days = sandbox.get(f"{path}&start={noon}&end={noon + 3 * 86_400_000}")["bars"]
    assert [bar["time"] - noon for bar in days] == [0, 2 * 86_400_000]  # 29 October is a holiday
    for path, body in (
        ("/sandbox/cancel", {"symbol": "AAPL", "id": 5}),
        ("/sandbox/cancel", {"symbol": "AAPL", "id": "x"}),
        ("/sandbox/correct", {"symbol": "AAPL", "id": 5, "price": "0", "quantity": "1"}),
        ("/sandbox/halt", {"symbol": "THYAO.IS"}),
        ("/sandbox/trade", {"exchange": "alpaca", "symbol": "XYZ", "price": "1", "quantity": "1"}),
        ("/sandbox/trade", {"exchange": "alpaca", "symbol": "AAPL", "price": "1", "quantity": "0.5"}),
        (
            "/sandbox/trade",
            {"exchange": "alpaca", "symbol": "AAPL", "price": "1", "quantity": "1", "conditions": ["?"]},
        ),
        ("/sandbox/trade", {"exchange": "alpaca", "symbol": "AAPL", "price": "1", "quantity": "1", "time_us": 2**60}),
        ("/sandbox/faults", {"exchange": "yahoo", "kind": "cancel"}),
    ):
        assert requests.post(sandbox.url + path, json=body, timeout=10).status_code == 400, (path, body)
