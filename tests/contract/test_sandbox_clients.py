"""The simulated market is faithful: python-binance runs against it unmodified, its REST client and its sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager
from binance.client import Client
from binance.exceptions import BinanceAPIException

from app.config import load_settings
from app.domain.bars import State
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import RateLimited, SourceError, UnknownInstrument
from app.sources.binance import BinanceHistory
from tests.sandbox import RunningSandbox, start_sandbox

BTC = Instrument(4, Exchange.BINANCE, "BTC/USDT", "BTCUSDT", "crypto", "USDT", "24/7", True, 2)
SUMS = ("volume", "quote_volume", "taker_buy_volume")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A lively generated market, one minute a second."""
    with start_sandbox(speed=60, rate=20, history_hours=12) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """The vendor's client with another base URL, and nothing else changed."""
    monkeypatch.setattr(AsyncClient, "API_URL", sandbox.url + "/api")
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", sandbox.stream_url + "/")
    client = await AsyncClient.create()
    yield client
    await client.close_connection()


async def _receive(socket: Any, count: int) -> list[dict[str, Any]]:
    async with socket as stream:
        return [await asyncio.wait_for(stream.recv(), 10) for _ in range(count)]


async def test_trade_socket(client: AsyncClient) -> None:
    """Raw trades, contiguous, as documented."""
    trades = await _receive(BinanceSocketManager(client, max_queue_size=10_000).trade_socket("BTCUSDT"), 60)
    assert set(trades[0]) == {"e", "E", "s", "t", "p", "q", "T", "m", "M"}
    ids = [trade["t"] for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 60))
    listed = await client.get_historical_trades(symbol="BTCUSDT", fromId=ids[0], limit=60)
    assert [(row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in listed] == [
        (trade["t"], trade["p"], trade["q"], trade["T"], trade["m"]) for trade in trades
    ]


async def test_kline_socket_closes_each_minute_with_what_history_says(client: AsyncClient) -> None:
    """The closed kline of a minute comes once, with its ids, and equals the row of history."""
    events = await _receive(BinanceSocketManager(client, max_queue_size=10_000).kline_socket("BTCUSDT", "1m"), 6)
    closed = [event["k"] for event in events if event["k"]["x"]]
    assert len(closed) >= 2 and closed[1]["t"] == closed[0]["t"] + 60_000
    assert closed[1]["f"] == closed[0]["L"] + 1 and closed[0]["L"] - closed[0]["f"] + 1 == closed[0]["n"]
    rows = await client.get_klines(symbol="BTCUSDT", interval="1m", startTime=closed[0]["t"], limit=1)
    assert rows == [[closed[0][key] for key in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")]]


async def test_multiplex_socket(client: AsyncClient) -> None:
    """Combined streams say which stream they belong to."""
    names = ["btcusdt@trade", "ethusdt@trade", "btcusdt@kline_1m", "btcusdt@kline_5m"]
    messages: list[dict[str, Any]] = []
    async with BinanceSocketManager(client, max_queue_size=10_000).multiplex_socket(names) as stream:
        while len({message["stream"] for message in messages}) < len(names) and len(messages) < 10_000:
            messages.append(await asyncio.wait_for(stream.recv(), 10))
    assert {message["stream"] for message in messages} == set(names)
    assert all(message["data"]["e"] == message["stream"].partition("@")[2].partition("_")[0] for message in messages)


async def test_klines_page_and_end_with_the_unfinished_one(client: AsyncClient) -> None:
    """startTime goes forward, endTime backward, both are inclusive; the newest row is still moving."""
    before = (await client.get_server_time())["serverTime"]
    newest = await client.get_klines(symbol="ETHUSDT", interval="1m")
    now = (await client.get_server_time())["serverTime"]
    assert len(newest) == 500 and newest[-1][6] >= before and newest[-2][6] < now
    start = newest[-401][0]
    ahead = await client.get_klines(symbol="ETHUSDT", interval="1m", startTime=start, limit=100)
    assert [row[0] for row in ahead] == list(range(start, start + 100 * 60_000, 60_000))
    both = await client.get_klines(symbol="ETHUSDT", interval="1m", startTime=start, endTime=start + 300_000)
    assert both == ahead[:6]
    back = await client.get_klines(symbol="ETHUSDT", interval="1m", endTime=ahead[-1][0], limit=100)
    assert back == ahead
    between = await client.get_klines(symbol="ETHUSDT", interval="1m", startTime=start + 1, endTime=start + 60_000)
    assert between == ahead[1:2]
    assert await client.get_klines(symbol="ETHUSDT", interval="1m", startTime=now + 3_600_000) == []
    assert len(await client.get_klines(symbol="ETHUSDT", interval="1m", limit=5000)) <= 1000


async def test_trades_of_all_kinds_agree(client: AsyncClient) -> None:
    """Recent, historical and aggregate trades are the same trades."""
    recent = await client.get_recent_trades(symbol="SOLUSDT", limit=50)
    again = await client.get_historical_trades(symbol="SOLUSDT", fromId=recent[0]["id"], limit=50)
    assert again == recent
    aggs = await client.get_aggregate_trades(symbol="SOLUSDT", fromId=recent[0]["id"], limit=50)
    assert [(row["f"], row["p"], row["q"], row["T"], row["m"]) for row in aggs] == [
        (row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in recent
    ]
    window = {"startTime": recent[0]["time"], "endTime": recent[-1]["time"]}
    timed = await client.get_aggregate_trades(symbol="SOLUSDT", **window)
    assert {row["a"] for row in timed} >= {row["a"] for row in aggs}
    assert len(await client.get_aggregate_trades(symbol="SOLUSDT", limit=7)) == 7


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("klines", {"interval": "1m"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "0"}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "colour": "red"}, -1104),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "2"}, -1128),
        ("exchangeInfo", {"symbol": "NOPE"}, -1121),
    ],
)
async def test_bad_requests_get_the_exchanges_own_codes(
    client: AsyncClient, path: str, params: dict[str, str], code: int
) -> None:
    """Bodies as Binance has them, which its client turns into its exception."""
    with pytest.raises(BinanceAPIException) as caught:
        await client._get(path, data=params)
    assert (caught.value.status_code, caught.value.code) == (400, code)


async def test_exchange_info_lists_the_symbols(client: AsyncClient) -> None:
    """get_symbol_info finds tick and step."""
    info = await client.get_symbol_info("ADAUSDT")
    assert info is not None
    assert {item["filterType"]: item for item in info["filters"]}["PRICE_FILTER"]["tickSize"] == "0.00010000"


def _history(sandbox: RunningSandbox) -> BinanceHistory:
    return BinanceHistory(load_settings(binance_api_url=sandbox.url, _env_file=None))


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.H1])
def test_history_gives_only_closed_bars(sandbox: RunningSandbox, timeframe: Timeframe) -> None:
    """Our source pages like the exchange, drops the unfinished bar, and equals the truth."""
    source = _history(sandbox)
    now = source.server_time_ms()
    start = timeframe.floor(now - 3 * 3_600_000)
    bars = source.klines(BTC, timeframe, start, now + 10 * timeframe.ms)
    after = source.server_time_ms()
    assert bars[0].time_ms == start and bars[-1].time_ms + timeframe.ms <= after
    truth = sandbox.truth("BTC/USDT", timeframe.value, start=start, end=bars[-1].time_ms + 1)
    assert [(bar.time_ms, bar.volume, bar.quote_volume, bar.taker_buy_volume, bar.trade_count) for bar in bars] == [
        (row["time"], *(Decimal(row[name]) for name in SUMS), row["trade_count"]) for row in truth
    ]
    assert all(bar.state is State.VERIFIED and bar.instrument_id == 4 for bar in bars)
    assert source.klines(BTC, timeframe, start, start + 2 * timeframe.ms, 1) == bars[:1]
    assert source.klines(BTC, timeframe, start, start) == []
    assert source.used_weight > 0
    source.close()


def test_history_speaks_the_exchanges_word_on_errors(sandbox: RunningSandbox) -> None:
    """Unknown symbols and absent exchanges are our errors, without addresses or keys."""
    source = _history(sandbox)
    info = source.exchange_info("BTCUSDT")
    assert (info.base, info.quote, info.price_decimals, info.size_decimals, info.trading) == ("BTC", "USDT", 2, 5, True)
    with pytest.raises(UnknownInstrument, match=r"NOPE.*Invalid symbol\."):
        source.exchange_info("NOPE")
    source.close()
    away = BinanceHistory(load_settings(binance_api_url="http://127.0.0.1:9", _env_file=None), timeout_s=1)
    with pytest.raises(SourceError, match="does not answer") as caught:
        away.server_time_ms()
    assert "127.0.0.1" not in str(caught.value)
    away.close()


def test_weights_are_counted_and_limited() -> None:
    """The header counts up; beyond the limit 429 with Retry-After, and 418 for who does not stop."""
    with start_sandbox(history_hours=1, weight_limit=30) as sandbox:
        client = Client(ping=False)
        client.loop.close()  # it makes one, makes it the thread's own and leaves it open
        asyncio.set_event_loop(None)
        client.API_URL = sandbox.url + "/api"
        client.ping()
        client.get_klines(symbol="BTCUSDT", interval="1m", limit=1)
        assert client.response.headers["X-MBX-USED-WEIGHT-1M"] in ("3", "2")  # 2: a new minute began between
        source = _history(sandbox)
        with pytest.raises(RateLimited, match="Too much request weight used") as caught:
            for _ in range(70):
                source.server_time_ms()
        assert 0 < caught.value.retry_after_s <= 61
        with pytest.raises(BinanceAPIException) as banned:
            while True:
                try:
                    client.ping()
                except BinanceAPIException as error:
                    if error.status_code == 418:
                        raise
        assert banned.value.code == -1003 and int(banned.value.response.headers["Retry-After"]) > 60
        client.close_connection()
        source.close()
