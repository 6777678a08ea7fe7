"""The simulated Alpaca's stream is faithful: alpaca-py's own client runs against it with another URL, nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgpack
import orjson
import pytest
from aiohttp.test_utils import TestServer
from alpaca.data.live import StockDataStream
from websockets.exceptions import WebSocketException

from app.sandbox.alpaca.door import open_doors
from app.sandbox.alpaca.streams import StreamDoor
from app.sandbox.fault_box import FaultBox, FaultList
from app.sandbox.server import SandboxConfig, build_market
from app.sandbox.stocks.prints import Print
from tests.sandbox import RunningSandbox, start_sandbox

FRIDAY = "2026-11-20T15:00"  # 10:00 in New York
MINUTE_US = 60_000_000
STOCKS = "AAPL,NVDA,META"

type Message = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A stock market in session, a minute a second."""
    with start_sandbox(symbols="BTC/USDT", stocks=STOCKS, stock_rate=3, start=FRIDAY, speed=60) as sandbox:
        yield sandbox


@asynccontextmanager
async def _listening(
    sandbox: RunningSandbox, *symbols: str, key: str = "stream", feed: str = "iex"
) -> AsyncIterator[list[Message]]:
    """What alpaca-py's client hears of the symbols, on every channel, from its subscription on."""
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    stream = StockDataStream(key, "secret", raw_data=True, url_override=f"{sandbox.stream_url}/v2/{feed}")
    stream._reconnect_min_backoff = 0.05
    for subscribe in (
        stream.subscribe_trades, stream.subscribe_quotes, stream.subscribe_bars, stream.subscribe_updated_bars,
        stream.subscribe_daily_bars, stream.subscribe_trading_statuses,
    ):  # fmt: skip
        subscribe(hear, *symbols)
    stream.register_trade_corrections(hear)
    stream.register_trade_cancels(hear)
    task = asyncio.create_task(stream._run_forever())
    try:
        await _until(lambda: bool(heard))
        yield heard
    finally:
        await stream.stop_ws()
        with suppress(WebSocketException):
            await stream._ws.close()
        await asyncio.wait_for(task, 60)


async def _until(true: Callable[[], bool], seconds: float = 90) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


def _us(message: Message) -> int:
    stamp = message["t"]
    return int(stamp.seconds * 1_000_000 + stamp.nanoseconds // 1000)


def _kind(heard: list[Message], kind: str, symbol: str = "AAPL") -> list[Message]:
    return [message for message in heard if message["T"] == kind and message["S"] == symbol]


def _truth(sandbox: RunningSandbox, symbol: str, lo_us: int, hi_us: int) -> list[Message]:
    path = f"/sandbox/truth?exchange=alpaca&symbol={symbol}&start={lo_us // 1000}&end={hi_us // 1000}"
    bars: list[Message] = sandbox.get(path)["bars"]
    return bars


def _same(bar: Message, true: Message) -> bool:
    prices = [
        bar[field] == float(true[name]) for field, name in zip("ohlc", ("open", "high", "low", "close"), strict=True)
    ]
    average = float(true["quote_volume"]) / float(true["volume"])
    return (
        all(prices)
        and (bar["v"], bar["n"]) == (int(true["volume"]), true["trade_count"])
        and abs(bar["vw"] - average) < 1e-6
    )


async def _talk(url: str, *said: Message, headers: dict[str, str] | None = None) -> list[Message]:
    """What a JSON client hears, one frame for each thing it says and one before, with what ended the connection."""
    heard: list[Message] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers or {}) as socket:
        for words in (None, *said):
            if words is not None:
                await socket.send_str(orjson.dumps(words).decode())
            heard += orjson.loads(await socket.receive_str(timeout=30))
    return heard


def _auth(key: str = "json") -> Message:
    return {"action": "auth", "key": key, "secret": "secret"}


def _error(code: int, message: str) -> Message:
    return {"T": "error", "code": code, "msg": message}


async def test_what_it_says_to_a_client_of_json(sandbox: RunningSandbox) -> None:
    """Handshake, the whole subscription as acknowledgement, adding and taking away; every refusal with its code."""
    url = f"{sandbox.stream_url}/v2/iex"
    connected, authenticated = ({"T": "success", "msg": word} for word in ("connected", "authenticated"))
    none: Message = {name: [] for name in ("quotes", "bars", "updatedBars", "dailyBars", "statuses")}
    trades = {name: ["ZZZ"] for name in ("trades", "corrections", "cancelErrors")}  # nobody trades it
    subscribe = {"action": "subscribe", "bars": ["ZZZ"], "trades": ["ZZZ"]}
    assert await _talk(url, _auth(), subscribe, {"action": "unsubscribe", "bars": ["ZZZ"]}) == [
        connected,
        authenticated,
        {"T": "subscription", **none, **trades, "bars": ["ZZZ"]},
        {"T": "subscription", **none, **trades},
    ]
    headers = {"APCA-API-KEY-ID": "headers", "APCA-API-SECRET-KEY": "secret"}
    assert await _talk(url, {"action": "subscribe", "bars": []}, headers=headers) == [
        connected, authenticated,
    ]  # fmt: skip
    refused = {
        402: ([_auth("wrong")], "auth failed"),
        401: ([subscribe], "not authenticated"),
        400: ([{"action": "dance"}], "invalid syntax"),
        403: ([_auth(), _auth()], "already authenticated"),
    }
    for code, (said, word) in refused.items():
        assert (await _talk(url, *said))[-1] == _error(code, word)
    assert (await _talk(f"{sandbox.stream_url}/v2/sip", _auth("nofeed")))[-1] == _error(
        409, "insufficient subscription"
    )


async def test_who_says_nothing_is_told_so() -> None:
    """Without authentication in time the connection ends with 404."""
    market = build_market(SandboxConfig(stocks=("AAPL",), symbols=("BTC/USDT",), paused=True))
    doors = open_doors(market, FaultList(), requests_per_minute=10)
    faults = FaultBox[Print](FaultList(), exchange="alpaca", wall_s=time.monotonic, now_us=market.now_us)
    app = aiohttp.web.Application()
    app.add_routes(StreamDoor(doors.hub, doors.pump, faults, auth_s=0.1).routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        async with session.ws_connect(server.make_url("/v2/iex")) as socket:
            assert orjson.loads(await socket.receive_str(timeout=30))[0]["msg"] == "connected"
            assert orjson.loads(await socket.receive_str(timeout=30)) == [_error(404, "auth timeout")]
            assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize(
    ("key", "feed", "word"),
    [
        ("wrong", "iex", "auth failed"),
        ("nofeed", "sip", "insufficient subscription"),
        ("twice", "iex", "connection limit"),
    ],
)
async def test_the_real_client_is_refused(sandbox: RunningSandbox, key: str, feed: str, word: str) -> None:
    """A wrong key, a feed that is not paid for, a second connection; the first one and another feed go on."""
    streams = [StockDataStream(key, "secret", url_override=f"{sandbox.stream_url}/v2/{feed}") for _ in range(2)]
    try:
        if key == "twice":
            await streams[0]._start_ws()
        with pytest.raises(ValueError, match=word):
            await streams[1]._start_ws()
        if key == "twice":
            other = StockDataStream(key, "secret", url_override=f"{sandbox.stream_url}/v2/sip")
            await other._start_ws()
            await other.close()
    finally:
        for stream in streams:
            await stream.close()


async def test_trades_and_bars_are_those_of_history_and_truth(sandbox: RunningSandbox) -> None:
    """Each minute's bar comes once, right behind its trades, only where truth has one; trades as REST lists them."""
    async with _listening(sandbox, "AAPL", "META", feed="sip") as heard:
        await _until(lambda: len(_kind(heard, "b")) >= 6)
        messages = list(heard)
    for symbol in ("AAPL", "META"):
        trades = _kind(messages, "t", symbol)
        bars = [message for message in _kind(messages, "b", symbol) if _us(message) >= _us(messages[0])]
        assert set(trades[0]) == {"T", "S", "i", "x", "p", "s", "c", "z", "t"}
        lo, hi = _us(bars[0]), _us(_kind(messages, "b")[-1]) + MINUTE_US
        listed = sandbox.get(f"/sandbox/trades?symbol={symbol}&start={lo // 1000}&end={hi // 1000}")["trades"]
        told = [row for row in trades if lo <= _us(row) < hi]
        assert [(row["i"], _us(row), row["p"], row["s"], row["c"], row["x"], row["z"]) for row in told] == [
            (row["id"], row["time_us"], float(row["price"]), int(row["quantity"]), row["conditions"], row["exchange"],
             row["tape"]) for row in listed
        ]  # fmt: skip
        true = _truth(sandbox, symbol, lo, hi)
        assert [_us(bar) // 1000 for bar in bars] == [bar["time"] for bar in true]
        assert all(_same(bar, other) for bar, other in zip(bars, true, strict=True))
        for bar in bars:
            at = messages.index(bar)
            before, after = (_kind(part, "t", symbol) for part in (messages[:at], messages[at:]))
            assert all(_us(row) < _us(bar) + MINUTE_US for row in before)
            assert all(_us(row) >= _us(bar) + MINUTE_US for row in after)
    assert len(_kind(messages, "d")) >= 6
    quote = _kind(messages, "q")[0]
    assert set(quote) == {"T", "S", "bx", "bp", "bs", "ax", "ap", "as", "c", "z", "t"} and 0 < quote["bp"] < quote["ap"]


async def test_a_cancel_a_correction_and_a_late_print_change_the_minute(sandbox: RunningSandbox) -> None:
    """`x` and `c` come at once, `u` half a minute after; truth and history are as if the wrong print had never been."""
    async with _listening(sandbox, "AAPL", key="amend") as heard:
        await _until(lambda: len(_kind(heard, "b")) >= 2)
        start = _us(_kind(heard, "b")[-1])
        clean = _truth(sandbox, "AAPL", start, start + MINUTE_US)
        body = {"exchange": "alpaca", "symbol": "AAPL", "price": "999.5", "quantity": "700", "time_us": start + 5}
        late = sandbox.post("/sandbox/trade", body)
        await _until(lambda: any(bar["h"] == 999.5 for bar in _kind(heard, "u")))
        assert any((row["i"], row["p"], _us(row)) == (late["id"], 999.5, start + 5) for row in _kind(heard, "t"))
        assert [bar["open"] for bar in _truth(sandbox, "AAPL", start, start + MINUTE_US)] == ["999.5"]

        fix = {"symbol": "AAPL", "id": late["id"], "price": "1", "quantity": "700"}
        fixed = sandbox.post("/sandbox/correct", fix)
        await _until(lambda: any(bar["l"] == 1 for bar in _kind(heard, "u")))
        [correction] = _kind(heard, "c")
        told = [correction[field] for field in ("oi", "op", "os", "oc", "ci", "cp", "cs", "cc")]
        assert told == [late["id"], 999.5, 700, ["@"], fixed["id"], 1, 700, ["@"]]
        assert [bar["open"] for bar in _truth(sandbox, "AAPL", start, start + MINUTE_US)] == ["1"]

        before = len(_kind(heard, "u"))
        sandbox.post("/sandbox/cancel", {"symbol": "AAPL", "id": fixed["id"]})
        await _until(lambda: len(_kind(heard, "u")) > before)
        [cancel] = _kind(heard, "x")
        assert [cancel[field] for field in ("i", "p", "s", "a")] == [fixed["id"], 1, 700, "C"]
        assert _truth(sandbox, "AAPL", start, start + MINUTE_US) == clean
        assert _same(_kind(heard, "u")[-1], clean[0]) and _us(_kind(heard, "u")[-1]) == start


async def test_a_halt_is_told(sandbox: RunningSandbox) -> None:
    """A trading status of the code and reason asked for."""
    async with _listening(sandbox, "NVDA", key="halt") as heard:
        sandbox.post("/sandbox/halt", {"symbol": "NVDA", "code": "H", "reason": "T1"})
        await _until(lambda: bool(_kind(heard, "s", "NVDA")))
        [status] = _kind(heard, "s", "NVDA")
        assert (status["sc"], status["sm"], status["rc"], status["z"]) == ("H", "Trading Halt", "T1", "C")


async def test_every_minute_has_its_bar_at_high_speed() -> None:
    """A tick that spans minutes tells them one by one, each behind its trades, to the end of half a day and beyond."""
    start = "2026-11-27T17:30"  # the Friday after Thanksgiving ends at 13:00 in New York, 18:00 UTC
    with start_sandbox(stocks="AAPL,SPY", stock_rate=4, start=start, speed=3600, paused=True) as sandbox:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{sandbox.stream_url}/v2/sip") as socket:
            for words in (_auth(), {"action": "subscribe", "trades": ["*"], "bars": ["*"]}):
                await socket.receive_str(timeout=30)
                await socket.send_str(orjson.dumps(words).decode())
            assert "subscription" in await socket.receive_str(timeout=30)
            sandbox.start()
            heard: list[Message] = []
            with suppress(TimeoutError):  # hours after the close
                while not heard or heard[-1]["t"] < "2026-11-27T18:00":
                    heard += orjson.loads(await socket.receive_str(timeout=10))
        for symbol in ("AAPL", "SPY"):
            true = sandbox.get(f"/sandbox/truth?exchange=alpaca&symbol={symbol}&start=1795800600000&extended=1")["bars"]
            bars = [message for message in heard if message["T"] == "b" and message["S"] == symbol]
            assert len(bars) >= 30 and [bar["v"] for bar in bars] == [int(bar["volume"]) for bar in true[: len(bars)]]
            ends = ""  # of the minute that was told last
            for message in heard:
                if message["S"] == symbol and message["T"] == "t":
                    assert message["t"][:16] > ends
                elif message["S"] == symbol:
                    assert message["t"][:16] > ends
                    ends = message["t"][:16]


@pytest.mark.parametrize("kind", ["duplicate", "drop", "reorder", "malformed", "silence", "disconnect"])
async def test_faults_of_the_stream(sandbox: RunningSandbox, kind: str) -> None:
    """What every stream suffers, Alpaca's does too; its bars stay true, and the real client gets on with it."""
    options = {"disconnect": {"after": 20, "duration_s": 0.5}, "silence": {"after": 20, "duration_s": 0.6}}
    async with _listening(sandbox, "NVDA", key=kind) as heard:
        sandbox.fault(kind, exchange="alpaca", **options.get(kind, {"probability": 0.1, "seed": 3, "span": 5}))
        there = len(_kind(heard, "t", "NVDA"))
        await _until(lambda: len(_kind(heard, "t", "NVDA")) > there + 120)
        messages = list(heard)
        [fault] = sandbox.get("/sandbox/faults")["faults"]
        sandbox.post("/sandbox/faults/clear")
    trades = _kind(messages, "t", "NVDA")
    ids = [row["i"] for row in trades]
    lo, hi = _us(trades[0]) // 1000, max(map(_us, trades)) // 1000
    listed = [row["id"] for row in sandbox.get(f"/sandbox/trades?symbol=NVDA&start={lo}&end={hi}")["trades"]][1:]
    held = 6 if kind == "reorder" else 0  # the last ones may still be held back
    missing, twice = set(listed[: len(listed) - held]) - set(ids), len(ids) - len(set(ids))
    assert fault["fired"] >= 1
    assert bool(missing) == (kind in ("drop", "silence", "disconnect"))
    assert bool(twice) == (kind == "duplicate")
    assert (ids == sorted(ids)) == (kind != "reorder")
    for bar in _kind(messages, "b", "NVDA"):
        [true] = _truth(sandbox, "NVDA", _us(bar), _us(bar) + MINUTE_US)
        assert _same(bar, true)


async def test_a_key_can_be_refused_by_a_fault(sandbox: RunningSandbox) -> None:
    """The fault `auth` refuses as many keys as it is told to."""
    sandbox.fault("auth", exchange="alpaca", count=1)
    url = f"{sandbox.stream_url}/v2/iex"
    assert (await _talk(url, _auth("fault")))[-1] == _error(402, "auth failed")
    assert (await _talk(url, _auth("fault")))[-1]["msg"] == "authenticated"
    sandbox.post("/sandbox/faults/clear")


async def test_frames_are_msgpack_for_who_asks_for_it(sandbox: RunningSandbox) -> None:
    """Binary arrays of maps, times as msgpack's own timestamps."""
    headers = {"Content-Type": "application/msgpack"}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{sandbox.stream_url}/v2/iex", headers=headers) as socket:
            assert msgpack.unpackb(await socket.receive_bytes(timeout=30)) == [{"T": "success", "msg": "connected"}]
            await socket.send_bytes(msgpack.packb(_auth("packed")))
            assert msgpack.unpackb(await socket.receive_bytes(timeout=30))[0]["msg"] == "authenticated"
            await socket.send_bytes(msgpack.packb({"action": "subscribe", "trades": ["*"]}))
            assert msgpack.unpackb(await socket.receive_bytes(timeout=30))[0]["trades"] == ["*"]
            [trade, *_] = msgpack.unpackb(await socket.receive_bytes(timeout=30))
            assert trade["T"] == "t" and isinstance(trade["t"], msgpack.Timestamp)
