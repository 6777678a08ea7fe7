"""Every REST fault of the simulated market, met by the vendors' own clients and by our sources on top of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import redis
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException
from requests.exceptions import ChunkedEncodingError, ConnectionError, ReadTimeout

from app.bootstrap import Platform
from app.cache import health
from app.cache.account import FAILURES
from app.config import Settings, load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.errors import Forbidden, PlatformError, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.sources.binance import BinanceHistory
from tests.sandbox import RunningSandbox, start_sandbox

BTC = Instrument(4, Exchange.BINANCE, "BTC/USDT", "BTCUSDT", "crypto", "USDT", "24/7", True, 2)
START = 1_760_000_040_000 // MINUTE_MS * MINUTE_MS
END = START + 90 * MINUTE_MS


@pytest.fixture(scope="module")
def market() -> Iterator[RunningSandbox]:
    """A market of more than a page of history whose clock waits at END."""
    with start_sandbox(history_hours=24, paused=True, rate=1, symbols="BTC/USDT", start=_iso(END)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(market: RunningSandbox) -> Iterator[RunningSandbox]:
    """The market without a fault."""
    yield market
    market.post("/sandbox/faults/clear")


@pytest.fixture
def client(sandbox: RunningSandbox) -> Iterator[Client]:
    """python-binance's client with another base URL, and nothing else changed."""
    client = Client(ping=False, requests_params={"timeout": 2})
    client.loop.close()  # it makes one, makes it the thread's own and leaves it open
    asyncio.set_event_loop(None)
    client.API_URL = sandbox.url + "/api"
    yield client
    client.close_connection()


@pytest.fixture
def source(sandbox: RunningSandbox) -> Iterator[BinanceHistory]:
    """Our source."""
    source = BinanceHistory(load_settings(binance_api_url=sandbox.url, _env_file=None), timeout_s=2)
    source.server_time_ms()
    yield source
    source.close()


def _iso(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms / 1000))


def _fired(sandbox: RunningSandbox) -> list[int]:
    return [fault["fired"] for fault in sandbox.get("/sandbox/faults")["faults"]]


def _bars(source: Any, limit: int = 1000) -> list[Any]:
    bars: list[Any] = source.klines(BTC, Timeframe.M1, START, END, limit)
    return bars


CASES: list[tuple[dict[str, Any], type[Exception], type[PlatformError], str]] = [
    ({"kind": "status", "status": 500}, BinanceAPIException, SourceAway, "status 500"),
    ({"kind": "status", "status": 502}, BinanceAPIException, SourceAway, "status 502"),
    ({"kind": "status", "status": 503, "retry_after_s": 9}, BinanceAPIException, SourceAway, "status 503"),
    ({"kind": "status", "status": 429, "retry_after_s": 7}, BinanceAPIException, RateLimited, "Too much"),
    ({"kind": "status", "status": 418, "retry_after_s": 120}, BinanceAPIException, RateLimited, "Too much"),
    ({"kind": "slow", "duration_s": 3}, ReadTimeout, SourceAway, "does not answer"),
    ({"kind": "truncated"}, ChunkedEncodingError, SourceAway, "does not answer"),
    ({"kind": "malformed"}, BinanceRequestException, SourceAway, "not JSON"),
    ({"kind": "refused"}, ConnectionError, SourceAway, "does not answer"),
    ({"kind": "unauthorized", "status": 401}, BinanceAPIException, Forbidden, "Invalid API-key"),
    ({"kind": "unauthorized"}, BinanceAPIException, RateLimited, "Invalid API-key"),  # 403: Binance's web firewall
]


@pytest.mark.parametrize(("fault", "theirs", "ours", "word"), CASES, ids=lambda value: str(value)[:40])
def test_binance_meets_each_fault(
    sandbox: RunningSandbox,
    client: Client,
    source: BinanceHistory,
    fault: dict[str, Any],
    theirs: type[Exception],
    ours: type[PlatformError],
    word: str,
) -> None:
    """The client raises its own error, our source ours, without the address; afterwards both work as before."""
    whole = _bars(source)
    assert len(whole) == 90
    sandbox.fault(fault.pop("kind"), exchange="binance", count=2, **fault)
    with pytest.raises(theirs):
        client.get_klines(symbol="BTCUSDT", interval="1m", limit=5)
    with pytest.raises(ours, match=word) as caught:
        _bars(source)
    assert sandbox.url.rpartition(":")[2] not in str(caught.value)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == fault.get("retry_after_s", 60)
    assert _fired(sandbox) == [2]
    assert _bars(source) == whole
    assert len(client.get_klines(symbol="BTCUSDT", interval="1m", limit=5)) == 5


def test_a_slow_answer_in_time_is_an_answer(sandbox: RunningSandbox, source: BinanceHistory) -> None:
    """Only what takes longer than the time-out fails."""
    sandbox.fault("slow", duration_s=0.4)
    begun = time.monotonic()
    assert len(_bars(source)) == 90
    assert 0.4 <= time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", ["truncated", "malformed", "refused", "slow", "status"])
def test_faults_of_an_empty_answer(sandbox: RunningSandbox, source: BinanceHistory, kind: str) -> None:
    """A body of two characters breaks like a long one."""
    sandbox.fault(kind, duration_s=3)
    with pytest.raises(SourceAway):
        source.klines(BTC, Timeframe.M1, 0, MINUTE_MS)


def test_the_markets_own_door_and_other_exchanges_meet_no_fault(
    sandbox: RunningSandbox, source: BinanceHistory
) -> None:
    """Control, clock and truth stay reliable; a fault of one path or exchange leaves the others alone."""
    sandbox.fault("refused", path="exchangeInfo")
    sandbox.fault("status", status=500, exchange="alpaca")
    assert len(_bars(source)) == len(sandbox.truth("BTC/USDT", start=START, end=END)) == 90
    with pytest.raises(SourceAway):
        source.exchange_info("BTCUSDT")
    assert _fired(sandbox) == [1, 0]


def test_a_long_stretch_is_paged_and_costs_what_was_said(
    sandbox: RunningSandbox, source: BinanceHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past one page the next is asked for, up to the limit; for what is past the exchange's clock is asked once."""
    asked: list[str] = []
    get = source._client._get

    def listening(path: str, *args: Any, **options: Any) -> Any:
        asked.append(path)
        return get(path, *args, **options)

    monkeypatch.setattr(source._client, "_get", listening)
    history = sandbox.truth("BTC/USDT", start=END - 2_500 * MINUTE_MS, end=END)
    start = history[0]["time"]
    assert len(history) > 1_200
    for limit in (1, 999, 1000, 1001, 5000):
        asked.clear()
        weight = source.weight(Timeframe.M1, start, END, limit)
        bars = source.klines(BTC, Timeframe.M1, start, END, limit)
        assert [bar.time_ms for bar in bars] == [row["time"] for row in history[:limit]]
        assert asked == ["klines"] * -(-min(limit, len(history)) // 1000)
        assert weight == 2 * len(asked)
    assert source.weight(Timeframe.M1, start, END + MINUTE_MS, 1) == 2 + 1, "what may have closed since costs a look"


def test_a_skewed_clock_closes_no_bar_early(sandbox: RunningSandbox) -> None:
    """Where the exchange's clock is ahead of the platform's, an unfinished bar is not taken for a closed one."""
    now_us = sandbox.get("/sandbox/clock")["exchange_us"]
    settings = load_settings(binance_api_url=sandbox.url, _env_file=None)
    trusting, careful = BinanceHistory(settings), BinanceHistory(settings, now_us=lambda: now_us)
    sandbox.fault("skew", duration_s=90, exchange="binance")
    assert trusting.server_time_ms() == careful.server_time_ms() == now_us // 1000 + 90_000
    stretch = (BTC, Timeframe.H1, END - 7_200_000, END + 3_600_000)
    late = END // 3_600_000 * 3_600_000
    assert [bar.time_ms for bar in careful.klines(*stretch)] == [late - 3_600_000]
    sandbox.post("/sandbox/faults/clear")
    sandbox.fault("skew", duration_s=3600, exchange="binance")
    trusting.server_time_ms()
    assert trusting.klines(*stretch)[-1].time_ms == late, "the fault is a real one"
    trusting.close()
    careful.close()


async def test_skew_moves_event_times_and_the_rest_clock_only() -> None:
    """E and /api/v3/time are off; T, history and the market's own clock are right."""
    with start_sandbox(speed=60, rate=50, history_hours=1, symbols="BTC/USDT") as sandbox:
        await asyncio.to_thread(sandbox.fault, "skew", duration_s=-7)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(sandbox.stream_url + "/ws/btcusdt@trade") as socket,
        ):
            events = [await socket.receive_json(timeout=30) for _ in range(20)]
        assert {event["E"] - event["T"] for event in events} == {-7_000}
        clock = await asyncio.to_thread(sandbox.get, "/sandbox/clock")
        assert events[-1]["T"] <= clock["exchange_us"] // 1000


async def test_late_revised_and_broken_trades_on_the_wire() -> None:
    """A broken frame loses nothing; a late trade comes a minute and more behind; history has the right sizes."""
    with start_sandbox(
        speed=120, rate=3, history_hours=1, symbols="BTC/USDT", faults="late:probability=0.1,duration_s=70"
    ) as sandbox:
        await asyncio.to_thread(sandbox.fault, "revise", probability=0.2, seed=4, exchange="binance")
        await asyncio.to_thread(sandbox.fault, "malformed", probability=0.2, seed=5, door="stream")
        broken, trades = 0, list[dict[str, Any]]()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(sandbox.stream_url + "/stream?streams=btcusdt@trade") as socket,
        ):
            while len(trades) < 600:
                message = await socket.receive(30)
                try:
                    trades.append(message.json()["data"])
                except ValueError:
                    broken += 1
        faults = await asyncio.to_thread(sandbox.get, "/sandbox/faults")
        listed = await asyncio.to_thread(
            sandbox.get, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={trades[0]['t']}&limit=600"
        )
    assert 60 < broken < 200
    newest, behind = 0, 0
    for trade in trades:
        behind += trade["T"] < newest - 65_000
        newest = max(newest, trade["T"])
    assert 5 < behind <= next(fault["fired"] for fault in faults["faults"] if fault["kind"] == "late")
    sizes = {row["id"]: float(row["qty"]) for row in listed}
    ratios = {float(trade["q"]) / sizes[trade["t"]] for trade in trades if trade["t"] in sizes}
    assert {round(ratio, 6) for ratio in ratios} == {1.0, 2.0}


def test_chaos_is_planned_and_over_in_time(sandbox: RunningSandbox) -> None:
    """POST /sandbox/chaos puts the plan in force; the same seed plans the same; the past is refused."""
    now_us = sandbox.get("/sandbox/clock")["exchange_us"]
    first = sandbox.post("/sandbox/chaos", {"seed": 3, "until_us": now_us + 3_600_000_000})["faults"]
    assert len(first) > 30 and all(now_us <= fault["at_us"] < fault["until_us"] for fault in first)
    assert len(sandbox.get("/sandbox/faults")["faults"]) == len(first)
    sandbox.post("/sandbox/faults/clear")
    again = sandbox.post("/sandbox/chaos", {"seed": 3, "until_us": now_us + 3_600_000_000})["faults"]
    assert again == first
    with pytest.raises(Exception, match="400"):
        sandbox.post("/sandbox/chaos", {"seed": 3, "until_us": now_us})


@pytest.fixture
def own(settings: Settings, redis_client: redis.Redis) -> Iterator[tuple[RunningSandbox, Platform]]:
    """A market nobody has asked yet, and a process of the platform that may ask it for a weight of 50 a minute."""
    with start_sandbox(history_hours=3, paused=True, rate=1, symbols="BTC/USDT", start=_iso(END)) as sandbox:
        yield (
            sandbox,
            Platform(settings.model_copy(update={"binance_api_url": sandbox.url, "binance_weight_per_minute": 50})),
        )


def test_the_platforms_history_keeps_budget_rest_and_breaker(
    own: tuple[RunningSandbox, Platform],
) -> None:
    """Retry-After of one request makes every process rest; failures open the breaker; all of it is counted."""
    sandbox, platform = own
    other = Platform(platform.settings)
    mine, theirs = platform.history(BTC), other.history(BTC)
    assert mine is not None and theirs is not None and mine is platform.history(BTC)
    assert len(_bars(mine)) == 90
    with pytest.raises(UnknownInstrument):
        platform.sources.binance().ask(lambda source: source.exchange_info("NOPE"), 20)
    sandbox.fault("status", status=429, retry_after_s=3, count=1)
    with pytest.raises(RateLimited, match="Too much"):
        _bars(mine)
    with pytest.raises(RateLimited, match="asked all of us to wait") as caught:
        _bars(theirs)
    time.sleep(caught.value.retry_after_s)
    assert len(_bars(theirs)) == 90
    sandbox.fault("refused")
    for source in [mine, theirs] * FAILURES:
        with pytest.raises((SourceAway, RateLimited)):
            _bars(source)
    with pytest.raises(RateLimited, match="left alone"):
        _bars(theirs)
    counted = health.counters(platform.redis)
    assert counted == {"binance_rate_limited": 1, "binance_away": FAILURES, "binance_refused": 1}
    assert _fired(sandbox) == [1, FAILURES], "the breaker spared the exchange the other requests"


def test_each_thread_has_a_client_and_all_one_budget(own: tuple[RunningSandbox, Platform]) -> None:
    """Four threads at once: nobody reads another's answer, the sum of weights stays in the budget."""

    _, platform = own

    def ask(_: int) -> tuple[int, int | None]:
        history = platform.history(BTC)
        try:
            return id(history), len(_bars(history))
        except RateLimited:
            return id(history), None

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(60)))
    assert len({who for who, _ in answers}) > 1
    served = [(who, bars) for who, bars in answers if bars is not None]
    assert {bars for _, bars in served} == {90}
    spent = 2 * len(served) + len({who for who, _ in served})  # each thread's first look at the clock costs one
    assert 50 - 3 <= spent <= 50


def test_without_a_key_the_live_platform_says_what_is_missing(settings: Settings, redis_client: redis.Redis) -> None:
    """Alpaca's history is Forbidden with the remedy; nothing is sent, nothing is tried again."""
    live = Platform(settings.model_copy(update={"market": "live"}))
    apple = Instrument(9, Exchange.ALPACA, "AAPL", "AAPL", "stock", "USD", "XNYS", True, 2)
    history = live.history(apple)
    assert history is not None
    with pytest.raises(Forbidden, match="set ALPACA_API_KEY and ALPACA_SECRET_KEY"):
        history.klines(apple, Timeframe.M1, START, END)
    assert not issubclass(Forbidden, SourceAway) and issubclass(Forbidden, SourceError)
