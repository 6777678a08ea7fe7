"""The simulated market's stream: requests, limits, pings, faults, replay and its own door."""

from __future__ import annotations

import asyncio
import csv
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from app.domain.timeframes import Timeframe
from app.wire.binance import (
    Ack,
    KlineEvent,
    Refusal,
    Shutdown,
    TradeEvent,
    build_subscribe,
    build_unsubscribe,
    parse_stream,
)
from tests.sandbox import RunningSandbox, start_sandbox

IDS = {"BTCUSDT": 1, "ETHUSDT": 2, "XRPETH": 3}
BTC = "btcusdt@trade"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A market of 200 trades a second, whose clock waits."""
    with start_sandbox(speed=50, rate=4, history_hours=1, paused=True) as sandbox:
        yield sandbox


async def _events(
    sandbox: RunningSandbox, streams: list[str], *, count: int, paused: bool = True, until_us: int = 2**62
) -> list[Any]:
    """The first `count` events of a connection that subscribed before the clock started, fewer where it ends."""
    events: list[Any] = []
    if paused:
        await asyncio.to_thread(sandbox.stop)
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.stream_url + "/stream") as socket:
        await socket.send_str(build_subscribe(streams, 1))
        assert parse_stream((await socket.receive(30)).data, IDS) == Ack(1, None)
        if paused:
            await asyncio.to_thread(sandbox.start)
        while len(events) < count:
            message = await socket.receive(30)
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            event = parse_stream(message.data, IDS)
            if event.event_us > until_us:
                break
            events.append(event)
    return events


def _ids(events: list[Any]) -> list[int]:
    return [event.trade.first for event in events if isinstance(event, TradeEvent)]


async def test_a_started_market_is_the_same_each_time(sandbox: RunningSandbox) -> None:
    """Two runs from the same start deliver the same trades in the same order, symbols mixed by time."""
    streams = [BTC, "ethusdt@trade"]
    first = await _events(sandbox, streams, count=300)
    second = await _events(sandbox, streams, count=300)
    assert first == second
    assert [event.event_us for event in first] == sorted(event.event_us for event in first)
    assert {event.trade.instrument_id for event in first} == {1, 2}


async def test_requests_are_answered_as_documented(sandbox: RunningSandbox) -> None:
    """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS and refusals, each with its number."""
    sandbox.start()
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.stream_url + "/ws") as socket:

        async def ask(text: str) -> Any:
            await socket.send_str(text)
            while True:
                event = parse_stream((await socket.receive(30)).data, IDS)
                if isinstance(event, Ack | Refusal):
                    return event

        assert await ask(build_subscribe([BTC, "ethusdt@kline_1m"], 7)) == Ack(7, None)
        assert await ask('{"method":"LIST_SUBSCRIPTIONS","id":8}') == Ack(8, [BTC, "ethusdt@kline_1m"])
        assert await ask(build_unsubscribe([BTC], 9)) == Ack(9, None)
        assert await ask('{"method":"LIST_SUBSCRIPTIONS","id":"ten"}') == Ack("ten", ["ethusdt@kline_1m"])
        await asyncio.sleep(1.1)
        assert (await ask('{"method":"DANCE","id":11}')).code == 2
        assert (await ask("{")).code == 3
        assert (await ask(build_subscribe(["nonsense"], 12))).id == 12
        assert (await ask(build_subscribe([f"s{n}@trade" for n in range(1025)], 13))).code == 2


async def test_more_than_five_messages_a_second_end_the_connection(sandbox: RunningSandbox) -> None:
    """The sixth message within a second is one too many."""
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.stream_url + "/ws") as socket:
        for number in range(6):
            await socket.send_str(orjson.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}).decode())
        kinds = [(await socket.receive(30)).type for _ in range(6)]
        assert kinds == [aiohttp.WSMsgType.TEXT] * 5 + [aiohttp.WSMsgType.CLOSE]


async def test_pings_come_and_a_connection_has_an_end() -> None:
    """The market pings at its interval and ends a connection at its age, both settable."""
    with start_sandbox(history_hours=1, ping_s=0.2, lifetime_s=1) as sandbox:
        async with aiohttp.ClientSession() as session:
            started = time.monotonic()
            async with session.ws_connect(sandbox.stream_url + "/ws", autoping=False) as socket:
                message = await socket.receive(30)
                assert message.type is aiohttp.WSMsgType.PING
                while message.type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                    message = await socket.receive(30)
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert 0.9 < time.monotonic() - started < 20


async def test_disconnect_ends_connections_after_so_many_trades(sandbox: RunningSandbox) -> None:
    """The trades up to the fault arrive, then the connection ends; for a while nobody gets in; history has it all."""
    sandbox.start()
    sandbox.fault("disconnect", after=40, duration_s=3)
    events = await _events(sandbox, [BTC], count=500)
    ids = _ids(events)
    assert len(ids) == 40
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(sandbox.stream_url + "/ws")
        while not await _lets_in(session, sandbox):
            await asyncio.sleep(0.3)
    later = _ids(await _events(sandbox, [BTC], count=5, paused=False))
    assert later[0] > ids[-1] + 1
    rows = sandbox.get(f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={ids[-1]}&limit=1000")
    assert {row["id"] for row in rows} >= set(range(ids[-1], min(later[0], ids[-1] + 1000)))


async def _lets_in(session: aiohttp.ClientSession, sandbox: RunningSandbox) -> bool:
    try:
        await (await session.ws_connect(sandbox.stream_url + "/ws")).close()
    except aiohttp.WSServerHandshakeError:
        return False
    return True


async def test_silence_keeps_the_connection_and_says_nothing(sandbox: RunningSandbox) -> None:
    """Nothing comes for the given time, then trades go on behind a gap."""
    await asyncio.to_thread(sandbox.fault, "silence", after=30, duration_s=1.0)
    started = time.monotonic()
    ids = _ids(await _events(sandbox, [BTC], count=60))
    assert len(ids) == 60 and time.monotonic() - started > 0.9
    assert ids[:30] == list(range(ids[0], ids[0] + 30))
    assert ids[30] > ids[29] + 1
    assert _delete_faults(sandbox) == []


async def test_a_shutdown_is_announced_before_the_connections_of_then_end(sandbox: RunningSandbox) -> None:
    """The documented event comes first, trades go on until the end; a connection made meanwhile stays."""
    await asyncio.to_thread(sandbox.start)
    async with aiohttp.ClientSession() as session:
        old = await session.ws_connect(sandbox.stream_url + f"/ws/{BTC}")
        await old.receive(30)
        started = time.monotonic()
        await asyncio.to_thread(sandbox.fault, "shutdown", duration_s=2.0)
        new = await session.ws_connect(sandbox.stream_url + f"/ws/{BTC}")
        events = []
        while (message := await old.receive(30)).type is aiohttp.WSMsgType.TEXT:
            events.append(parse_stream(message.data, IDS))
        assert 0.5 < time.monotonic() - started < 20
        place = next(place for place, event in enumerate(events) if isinstance(event, Shutdown))
        assert sum(isinstance(event, TradeEvent) for event in events[place:]) > 5
        assert sum(isinstance(event, Shutdown) for event in events) == 1
        newest = _ids(events)[-1]
        while (seen := parse_stream((await new.receive(30)).data, IDS)).trade.first < newest + 20:
            assert isinstance(seen, TradeEvent)
        await new.close()


async def test_an_address_opens_300_connections_in_five_minutes() -> None:
    """The 301st is refused with 429."""
    with start_sandbox(history_hours=1) as sandbox:
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                await (await session.ws_connect(sandbox.stream_url + "/ws")).close()
            with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
                await session.ws_connect(sandbox.stream_url + "/ws")


@pytest.mark.slow
async def test_duplicates_and_reordering_lose_nothing(sandbox: RunningSandbox) -> None:
    """Some trades come twice, some late, the same ones for the same seed."""
    runs = []
    for _ in range(2):
        _delete_faults(sandbox)
        sandbox.fault("duplicate", probability=0.2, seed=3)
        sandbox.fault("reorder", probability=0.2, seed=4, span=6)
        runs.append(_ids(await _events(sandbox, [BTC], count=400)))
    _delete_faults(sandbox)
    assert runs[0][:380] == runs[1][:380]
    counts = Counter(runs[0])
    assert max(counts.values()) == 2 and 40 < sum(count == 2 for count in counts.values()) < 120
    assert runs[0] != sorted(runs[0])
    settled = sorted(counts)[:-10]
    assert settled == list(range(settled[0], settled[0] + len(settled)))


async def test_dropped_trades_are_in_history_and_truth(sandbox: RunningSandbox) -> None:
    """A drop is never sent, and everyone else knows of it."""
    sandbox.fault("drop", after=10, count=3)
    ids = _ids(await _events(sandbox, [BTC], count=60))
    _delete_faults(sandbox)
    lost = sorted(set(range(ids[0], ids[-1])) - set(ids))
    assert lost == [ids[9] + 1, ids[9] + 2, ids[9] + 3]
    rows = sandbox.get(f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={lost[0]}&limit=3")
    assert [row["id"] for row in rows] == lost


def _delete_faults(sandbox: RunningSandbox) -> Any:
    return sandbox.post("/sandbox/faults/clear")["faults"]


@pytest.mark.parametrize("body", [{"kind": "earthquake"}, {"kind": "drop", "probability": 2}, {"kind": "drop", "x": 1}])
def test_unknown_faults_are_refused(sandbox: RunningSandbox, body: dict[str, Any]) -> None:
    """With the reason, and 400."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        sandbox.post("/sandbox/faults", body)
    with caught.value as answer:
        assert answer.code == 400 and b"error" in answer.read()


async def test_an_injected_trade_is_sent_at_once_and_everywhere(sandbox: RunningSandbox) -> None:
    """It takes the next id; stream, history and truth go on behind it."""
    await asyncio.to_thread(sandbox.start)
    task = asyncio.create_task(_events(sandbox, [BTC], count=200, paused=False))
    await asyncio.sleep(0.3)
    made = await asyncio.to_thread(sandbox.trade, "BTC/USDT", "99999.5", "0.25")
    ids = _ids(events := await task)
    assert ids == list(range(ids[0], ids[0] + 200))
    (sent,) = [event.trade for event in events if event.trade.first == made["id"]]
    assert (sent.price_e8, sent.size_e8, sent.time_us) == (9_999_950_000_000, 25_000_000, made["time_us"])
    rows = sandbox.get(f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={made['id'] - 1}&limit=3")
    assert [row["id"] for row in rows] == [made["id"] - 1, made["id"], made["id"] + 1]
    assert rows[1]["price"] == "99999.50000000"
    minute = made["time_us"] // 60_000_000 * 60_000
    while not (bars := sandbox.truth("BTC/USDT", start=minute, end=minute + 1)):
        await asyncio.sleep(0.1)
    assert bars[0]["high"] == "99999.5"


@pytest.mark.parametrize("speed", [1200])
async def test_replay_of_recorded_trades_is_exact(shared_data: Path, speed: int) -> None:
    """Two recorded hours: every raw trade once, in order; stream, klines, truth and the independent file agree."""
    files = [shared_data / f"XRPETH-aggTrades-2019-10-{day}.zip" for day in (11, 12)]
    window = {"start": "2019-10-11T10:00", "end": "2019-10-11T12:00"}
    with start_sandbox(speed=speed, replay=files, paused=True, history_hours=1, **window) as sandbox:
        start_ms = int(sandbox.get("/sandbox/clock")["start_us"] // 1000)
        end_ms = start_ms + 2 * 3_600_000
        streams = ["xrpeth@trade", "xrpeth@kline_1m", "xrpeth@kline_1h"]
        events = await _events(sandbox, streams, count=10**6, until_us=end_ms * 1000)
        truth = sandbox.truth("XRP/ETH", start=start_ms, end=end_ms)
        history = sandbox.truth("XRP/ETH", end=start_ms)
        rows = sandbox.get(f"/api/v3/klines?symbol=XRPETH&interval=1m&startTime={start_ms}&endTime={end_ms - 1}")
        aggs = sandbox.get(f"/api/v3/aggTrades?symbol=XRPETH&startTime={start_ms}&endTime={end_ms - 1}&limit=1000")
    trades = [event.trade for event in events if isinstance(event, TradeEvent)]
    assert _ids(events) == list(range(trades[0].first, trades[-1].first + 1))
    expected = _oracle(shared_data)
    assert history[0]["time"] == min(expected)
    for bar in [bar for bar in history + truth if bar["trade_count"]]:
        want = expected[bar["time"]]
        assert all(Decimal(bar[name]) == Decimal(want[name]) for name in ("open", "high", "low", "close", "volume"))
        assert bar["trade_count"] == int(want["trade_count"])
    assert len(truth) == 120 and sum(bar["trade_count"] for bar in truth) == len(trades)
    closed = {
        event.bar.time_ms: event.bar for event in events
        if isinstance(event, KlineEvent) and event.closed and event.bar.timeframe is Timeframe.M1
    }  # fmt: skip
    for bar, row in zip(truth, rows, strict=True):
        kline = closed[bar["time"]]
        assert (kline.volume, kline.trade_count) == (Decimal(bar["volume"]), bar["trade_count"])
        assert (kline.first_id, kline.last_id) == tuple(
            bar[key] if bar[key] >= 0 else None for key in ("first_id", "last_id")
        )
        assert (row[0], Decimal(row[5]), row[8]) == (bar["time"], Decimal(bar["volume"]), bar["trade_count"])
        assert round(Decimal(bar["quote_volume"]), 8) == Decimal(row[7])
    sizes: Counter[int] = Counter()
    for trade in trades:
        sizes[next(agg["a"] for agg in aggs if agg["f"] <= trade.first <= agg["l"])] += trade.size_e8
    assert sizes == {agg["a"]: int(Decimal(agg["q"]) * 10**8) for agg in aggs}


def _oracle(shared_data: Path) -> dict[int, dict[str, str]]:
    with (shared_data / "XRPETH-1m-2019-10-11_13.csv").open(newline="") as file:
        return {int(row["open_time_ms"]): row for row in csv.DictReader(file)}


def test_bad_arguments_end_with_two(tmp_path: Path) -> None:
    """One clear line, exit code 2."""
    with pytest.raises(RuntimeError, match="exit code 2"), start_sandbox(replay=[tmp_path / "x.csv"]):
        pass
