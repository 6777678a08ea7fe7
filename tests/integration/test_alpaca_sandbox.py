"""The Alpaca streamer and history against the simulated market: bars as its truth has them, amendments, lost lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from app.config import load_settings
from app.domain.bars import UNPRICED, PartialBar, partial_bars
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import UnknownInstrument
from app.sources.alpaca import AlpacaHistory
from app.sources.calendars import sessions
from app.wire import numbers
from tests.alpaca_door import Streaming, stock, streaming
from tests.sandbox import RunningSandbox, start_sandbox

START = "2024-03-08T20:50"  # ten minutes before the close of a Friday
START_MS = numbers.parse_time(START + ":00Z") // 1000
FRIDAY = START_MS // DAY_MS * DAY_MS
DAYS: list[Session] = sessions("XNYS", FRIDAY - 20 * DAY_MS, FRIDAY + 20 * DAY_MS)
FIELDS = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def market() -> Iterator[RunningSandbox]:
    """Two stocks, twenty exchange seconds a second, a Friday afternoon."""
    with start_sandbox(
        stocks="AAPL,MSFT", symbols="none", stock_rate=20, start=START, speed=20, history_hours=24
    ) as it:
        yield it


def truth(market: RunningSandbox, symbol: str, timeframe: str, lo: int, hi: int) -> dict[int, tuple[Any, ...]]:
    """The true bars by their time."""
    path = f"/sandbox/truth?exchange=alpaca&symbol={symbol}&timeframe={timeframe}&start={lo}&end={hi}"
    return {
        bar["time"]: (*(float(bar[name]) for name in FIELDS), Decimal(bar["volume"]), int(bar["trade_count"]))
        for bar in market.get(path)["bars"]
    }


def told(bar: Any) -> tuple[Any, ...]:
    """A bar of ours in the same shape."""
    return (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)


def merged(live: Streaming, instrument_id: int) -> dict[int, tuple[Any, ...]]:
    """The minutes of what was handed to the workers, by the merge law; those without a price left out."""
    bars: dict[int, PartialBar] = {}
    for _, batch in list(live.queue.batches):
        for part in partial_bars(batch):
            if part.instrument_id == instrument_id:
                bars[part.time_ms] = _join(bars[part.time_ms], part) if part.time_ms in bars else part
    return {time: told(bar) for time, bar in bars.items() if bar.open_time != UNPRICED}


def _join(a: PartialBar, b: PartialBar) -> PartialBar:
    first, last = (
        min((a, b), key=lambda p: (p.open_time, p.open_seq)),
        max((a, b), key=lambda p: (p.close_time, p.close_seq)),
    )
    return first._replace(
        high=max(a.high, b.high), low=min(a.low, b.low), close=last.close, close_time=last.close_time,
        close_seq=last.close_seq, volume=a.volume + b.volume, trade_count=a.trade_count + b.trade_count,
    )  # fmt: skip


@pytest.mark.slow
async def test_minutes_are_the_markets_own(market: RunningSandbox) -> None:
    market.start(exchange_us=START_MS * 1000)
    async with streaming(market.url, "AAPL", "MSFT", sessions=DAYS) as live:
        await live.until(lambda: live.queue.trades)
        minute_ms = (live.queue.trades[0].time_us // 60_000_000 + 1) * MINUTE_MS  # the first whole minute
        end_us = (minute_ms + 3 * MINUTE_MS) * 1000

        def past() -> bool:
            """Whether both symbols' trades of the three minutes were handed on: one of each after them was."""
            return len({trade.instrument_id for trade in live.queue.trades if trade.time_us >= end_us}) == 2

        await live.until(lambda: past() and len(live.queue.bars) >= 6)
        lo, hi = minute_ms, minute_ms + 3 * MINUTE_MS
        for id, symbol in enumerate(("AAPL", "MSFT"), 1):
            true = await asyncio.to_thread(truth, market, symbol, "1m", lo, hi)
            assert len(true) == 3
            mine = merged(live, id)
            assert {time: mine[time] for time in true} == true
            words = {bar.time_ms: told(bar) for bar in live.queue.bars if bar.instrument_id == id}
            assert {time: words[time] for time in true if time in words} == {t: true[t] for t in true if t in words}
        assert not live.dropped.get("unknown_condition") and not live.dropped.get("malformed_message")
        await live.until(lambda: {"alpaca:AAPL", "alpaca:MSFT"} <= live.store.books.keys())


@pytest.mark.parametrize("feed", ["iex", "sip"])
async def test_amendments_doubt_the_minute_of_their_print(market: RunningSandbox, feed: str) -> None:
    market.start(exchange_us=START_MS * 1000)
    async with streaming(market.url, "AAPL", sessions=DAYS, alpaca_feed=feed) as live:
        await live.until(lambda: live.streamer.stats.trades > 20)
        now_ms = live.streamer.stats.last_event_us // 1000
        path = f"/sandbox/trades?exchange=alpaca&symbol=AAPL&start={now_ms - 5000}&end={now_ms}"
        listed = (await asyncio.to_thread(market.get, path))["trades"]
        wrong, corrected = listed[-1]["id"], listed[-2]["id"]
        minute = now_ms // MINUTE_MS * MINUTE_MS
        await asyncio.sleep(0.5)
        body = {"exchange": "alpaca", "symbol": "AAPL"}
        await asyncio.to_thread(market.post, "/sandbox/cancel", {**body, "id": wrong})
        await asyncio.to_thread(
            market.post, "/sandbox/correct", {**body, "id": corrected, "price": "1", "quantity": "5"}
        )
        await live.until(lambda: len(live.queue.doubts) == 2)
        assert {doubt.cause for doubt in live.queue.doubts} == {"cancel", "correction"}
        assert all(minute - MINUTE_MS <= d.lo_ms <= minute for d in live.queue.doubts)
        assert all(doubt.hi_ms - doubt.lo_ms == MINUTE_MS for doubt in live.queue.doubts)


async def test_faults_end_a_run_and_the_next_begins(market: RunningSandbox) -> None:
    market.start(exchange_us=START_MS * 1000)
    async with streaming(market.url, "AAPL", sessions=DAYS) as live:
        await live.until(lambda: live.streamer.stats.trades > 5)
        for kind in ("disconnect", "malformed"):
            runs = live.streamer.stats.runs
            await asyncio.to_thread(market.fault, kind, exchange="alpaca", count=1)
            await live.until(lambda runs=runs: live.streamer.stats.runs > runs)  # type: ignore[misc]
            await asyncio.sleep(0.3)
        assert live.dropped["malformed_frame"] == 1 and live.streamer.stats.reconnects == 2
    marks = live.queue.runs()
    assert len(marks) == 3 and all(run[-1].over for run in marks.values())


@pytest.mark.parametrize(
    ("keys", "feed", "code"),
    [(("wrong", "x"), "iex", "402"), (("nofeed", "x"), "sip", "409"), (("twice", "x"), "iex", "406")],
)
async def test_the_market_refuses(market: RunningSandbox, keys: tuple[str, str], feed: str, code: str) -> None:
    options = {"alpaca_api_key": keys[0], "alpaca_secret_key": keys[1], "alpaca_feed": feed, "sessions": DAYS}
    async with streaming(market.url, "AAPL", **options) as first:
        if code == "406":
            await first.until(lambda: first.streamer.feed.state == "connected")
            async with streaming(market.url, "AAPL", **options) as second:
                await second.until(lambda: second.streamer.feed.state == "refused")
                assert code in second.streamer.feed.error
            assert first.streamer.feed.state == "connected"
        else:
            await first.until(lambda: first.streamer.feed.state == "refused")
            assert code in first.streamer.feed.error


@pytest.mark.parametrize("timeframe", list(Timeframe))
@pytest.mark.parametrize("extended", [False, True])
def test_history_is_the_truth(market: RunningSandbox, timeframe: Timeframe, extended: bool) -> None:
    market.start(exchange_us=(FRIDAY + 22 * 3_600_000) * 1000)
    time.sleep(0.2)
    now_us = market.get("/sandbox/clock")["exchange_us"]
    settings = load_settings(
        alpaca_api_url=market.url, alpaca_trading_url=market.url, extended_hours=extended, _env_file=None
    )
    source = AlpacaHistory(settings, sessions=lambda _c, _lo, _hi: DAYS, now_us=lambda: now_us)
    lo, hi = FRIDAY - 2 * DAY_MS, FRIDAY + DAY_MS
    try:
        found = source.klines(stock(1, "AAPL"), timeframe, lo, hi, 5000)
        bars = {bar.time_ms: told(bar) for bar in found}
    finally:
        source.close()
    path = "AAPL" + ("&extended=1" if extended and timeframe is not Timeframe.D1 else "")
    true = truth(market, path, timeframe.value, lo, min(hi, now_us // 1000))
    assert true and bars == true


def test_assets_and_unknown_symbols(market: RunningSandbox) -> None:
    settings = load_settings(alpaca_api_url=market.url, alpaca_trading_url=market.url, _env_file=None)
    source = AlpacaHistory(settings, sessions=lambda _c, _lo, _hi: DAYS, now_us=lambda: START_MS * 1000)
    try:
        asset = source.asset("AAPL")
        assert (asset.symbol, asset.status, asset.tradable) == ("AAPL", "active", True)
        with pytest.raises(UnknownInstrument, match="NOPE"):
            source.asset("NOPE")
    finally:
        source.close()
