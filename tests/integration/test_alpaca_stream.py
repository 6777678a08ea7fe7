"""The Alpaca streamer against a scripted exchange: prints, bars, amendments, quotes, halts, refusals, lost lines."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import orjson
import pytest

from app.domain.conditions import ALL, VOLUME
from app.domain.official import Doubt
from app.domain.trades import Trade
from app.wire import alpaca as wire
from app.wire import alpaca_values as values
from tests.alpaca_door import CLOSE_US, NOW_US, OPEN_US, Door, Streaming, door, stock, streaming, trade

MINUTE_MS = 60_000
OPEN_MS = OPEN_US // 1000


def bar(minute: int, kind: str = "b", symbol: str = "AAPL") -> dict[str, Any]:
    row = values.BarRow(symbol, OPEN_MS + minute * MINUTE_MS, 1.0, 2.0, 0.5, 1.5, Decimal(300), Decimal("1.25"), 3)
    return wire.build_bar(row, kind)


def status(code: str, offset_s: float) -> dict[str, Any]:
    time_us = OPEN_US + round(offset_s * 1e6)
    return wire.build_status(values.Status("AAPL", time_us, code, "Halted", "T1", "News Pending", "C"))


async def ready(market: Door, live: Streaming) -> None:
    """Returns once the streamer has subscribed and knows the sessions."""
    await live.until(lambda: live.streamer.feed.state == "connected" and market.sockets)
    await live.until(lambda: live.streamer._hours._schedules)


async def test_prints_become_numbered_trades_by_their_conditions() -> None:
    async with door() as market, streaming(market.url, "AAPL", "MSFT") as live:
        await ready(market, live)
        await market.send(
            trade("AAPL", 60.5, 126.55, 100), trade("MSFT", 60.6, 410.1), trade("AAPL", 61, 127, 3, "@", "I"),
            trade("AAPL", 62, 1, 1, "@", "M"), trade("AAPL", 63, 126.5, 10, "@", "$"), trade("NVDA", 64, 900),
        )  # fmt: skip
        await live.until(lambda: len(live.queue.trades) == 4)
        first, msft, odd, last = live.queue.trades
        assert first == Trade(1, OPEN_US + 60_500_000, 1, 1, 12_655_000_000, 10**10, False)
        assert [(item.instrument_id, item.first) for item in (msft, odd, last)] == [(2, 1), (1, 2), (1, 3)]
        updates = live.queue.batches[-1][1].updates
        assert updates is not None and updates.tolist() == [ALL, ALL, VOLUME, ALL]
        assert live.dropped == {"not_in_bars": 1, "unknown_condition": 1}
    run = live.queue.runs()[live.queue.marks[0].run]
    assert run[0].subscribed is not None and [id for id, _ in run[0].subscribed] == [1, 2]
    assert run[0].exchange == "alpaca" and run[-1].over
    assert all(since >= NOW_US for _, since in run[0].subscribed)


@pytest.mark.parametrize("extended", [False, True])
async def test_prints_outside_the_session_are_kept_only_in_extended_hours(extended: bool) -> None:
    early, late = trade("AAPL", -60, 120, 5, "@", "T"), trade("AAPL", 6.5 * 3600, 121, 5)
    night = trade("AAPL", 14 * 3600, 122, 5)
    async with door() as market, streaming(market.url, "AAPL", extended_hours=extended) as live:
        await ready(market, live)
        before = {
            **bar(0),
            "t": wire.build_bar(values.BarRow("AAPL", OPEN_MS - 60_000, 1, 1, 1, 1, Decimal(1), Decimal(1), 1))["t"],
        }
        await market.send(early, late, night, before, trade("AAPL", 5, 123), bar(1))
        await live.until(lambda: live.queue.bars and live.queue.trades)
        prices = [item.price_e8 // 10**8 for item in live.queue.trades]
        if extended:
            assert prices == [120, 121, 123] and live.dropped == {"outside_session": 1}
            assert all(batch.updates is None for _, batch in live.queue.batches)  # a T print is a regular one then
        else:
            assert prices == [123] and live.dropped == {"outside_session": 3, "bar_outside_session": 1}
        assert len(live.queue.bars) == 1 + extended


async def test_without_known_sessions_every_print_is_kept() -> None:
    async with door() as market, streaming(market.url, "AAPL", sessions=()) as live:
        await live.until(lambda: live.streamer.feed.state == "connected" and market.sockets)
        await market.send(trade("AAPL", -5000, 123))
        await live.until(lambda: len(live.queue.trades) == 1)


async def test_bars_corrections_and_cancels_reach_the_workers() -> None:
    def side(id: int) -> values.Side:
        return values.Side(id, 10**8, 10**8, ("@",))

    correction = values.Correction("AAPL", OPEN_US + 130_000_000, "V", side(7), side(8), "C")
    cancel = values.Cancel("AAPL", OPEN_US + 200_000_000, 9, "V", 10**8, 10**8, "C", "C")
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        await market.send(bar(1), bar(1, "u"), bar(1, "d"), bar(1, symbol="NVDA"), trade("AAPL", 65, 1.0, id=7))
        await market.send(wire.build_correction(correction), wire.build_cancel(cancel))
        await live.until(lambda: len(live.queue.bars) == 2 and len(live.queue.doubts) == 2)
        assert [(b.instrument_id, b.time_ms, b.revised) for b in live.queue.bars] == [
            (1, OPEN_MS + MINUTE_MS, False), (1, OPEN_MS + MINUTE_MS, True),
        ]  # fmt: skip
        assert live.queue.bars[0].quote_volume == Decimal(375)
        # The corrected print is known by its number, the cancelled one is not: all since the opening is doubted.
        assert live.queue.doubts == [
            Doubt(1, OPEN_MS + MINUTE_MS, OPEN_MS + 2 * MINUTE_MS, "correction"),
            Doubt(1, OPEN_MS, OPEN_MS + 4 * MINUTE_MS, "cancel"),
        ]
        assert live.dropped == {"amended_unknown": 1}


async def test_quotes_are_told_at_most_four_times_a_second_the_newest_wins() -> None:
    def quote(cents: int) -> dict[str, Any]:
        time_us = OPEN_US + 10**9 + cents
        return wire.build_quote(values.Quote("AAPL", time_us, "V", 126 + cents / 100, 3, "Q", 127, 4, ("R",), "C"))

    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        calls, began = live.store.calls, time.monotonic()
        for cents in range(50):
            await market.send(quote(cents))
            await asyncio.sleep(0.02)
        await live.until(lambda: b'"bid":126.49' in live.store.books.get("alpaca:AAPL", b""))
        assert 1 <= live.store.calls - calls <= 4 * (time.monotonic() - began) + 3
        book = orjson.loads(live.store.books["alpaca:AAPL"])
        assert book == {"bid": 126.49, "bid_size": 3, "ask": 127, "ask_size": 4, "time": OPEN_MS + 10**6}


async def test_a_halt_is_shown_until_trading_resumes() -> None:
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        await market.send(status("H", 100))
        await live.until(lambda: live.store.standing)
        assert orjson.loads(live.store.standing["alpaca:AAPL"])["reason"] == "News Pending"
        await market.send(status("E", 101), trade("AAPL", 99, 1.0))  # says nothing; a print from before the halt
        await live.until(lambda: live.queue.trades)
        await asyncio.sleep(0.4)
        assert live.store.standing
        await market.send(status("T", 102))
        await live.until(lambda: not live.store.standing)
        await market.send(status("P", 103))
        await live.until(lambda: live.store.standing)
        await market.send(trade("AAPL", 104, 1.0))  # its resumption was missed: it trades again
        await live.until(lambda: not live.store.standing)


async def test_a_changed_watchlist_costs_the_others_nothing() -> None:
    async with door() as market, streaming(market.url, "AAPL", "MSFT") as live:
        await ready(market, live)
        done = asyncio.Event()

        async def keep_trading() -> int:
            sent = 0
            while not done.is_set():
                sent += 1
                await market.send(trade("AAPL", 100 + sent / 100, 100, id=sent))
                await asyncio.sleep(0.005)
            return sent

        trading = asyncio.create_task(keep_trading())
        live.watchlist[1:] = [stock(3, "NVDA"), stock(4, "TSLA")]
        await live.until(lambda: {"NVDA", "TSLA"} == live.streamer.feed.live.followed.keys() - {"AAPL"})  # type: ignore[union-attr]
        await asyncio.sleep(0.2)
        await market.send(trade("MSFT", 1, 1.0), trade("TSLA", 1, 2.0))
        done.set()
        sent = await trading
        await live.until(lambda: len(live.queue.trades) == sent + 1)
        assert live.queue.ids(1) == set(range(1, sent + 1)) and live.queue.ids(4) == {1}
        assert market.attempts == 1 and live.streamer.stats.runs == 1
        assert market.requests[1] == {name: ["MSFT"] for name in wire.CHANNELS}
    told = [mark.subscribed for mark in live.queue.marks if mark.subscribed]
    assert [id for id, _ in told[-1]] == [1, 3, 4]


async def test_a_lost_connection_comes_back_as_a_new_run() -> None:
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        await market.send(trade("AAPL", 1, 1.0))
        await live.until(lambda: len(live.queue.trades) == 1)
        await market.drop()
        await live.until(lambda: market.sockets)
        await market.send(trade("AAPL", 2, 1.0))
        await live.until(lambda: len(live.queue.trades) == 2)
        assert live.streamer.stats.reconnects == 1
    first, second = live.queue.runs().values()
    assert first[-1].over and second[-1].over and first[-1].run != second[-1].run
    assert [item.first for item in live.queue.trades] == [1, 1]


async def test_nonsense_is_counted_and_a_torn_frame_ends_the_run() -> None:
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        broken = {**trade("AAPL", 1, 1.0), "p": -1}
        await market.send(broken, {"T": "t"}, {"x": 1}, trade("AAPL", 1, 1.0), {"T": "l", "S": "AAPL"})
        await live.until(lambda: len(live.queue.trades) == 1)
        assert live.dropped == {"malformed_message": 3} and live.streamer.stats.reconnects == 0
        await market.send_raw(wire.build_frame([trade("AAPL", 2, 1.0)])[:-9])
        await live.until(lambda: live.streamer.stats.reconnects == 1 and market.attempts == 2 and market.sockets)
        assert live.dropped["malformed_frame"] == 1
        await market.send(trade("AAPL", 3, 1.0))
        await live.until(lambda: len(live.queue.trades) == 2)


async def test_the_clock_goes_on_while_the_market_is_quiet() -> None:
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        await live.until(lambda: len(live.queue.marks) >= 4)
        uptos = [mark.upto_us for mark in live.queue.marks]
        assert uptos == sorted(uptos) and uptos[-1] > NOW_US and not live.queue.trades


@pytest.mark.parametrize(
    ("code", "word"), [(402, "auth failed"), (409, "insufficient subscription"), (406, "connection limit exceeded")]
)
async def test_a_refusal_is_told_once_and_not_asked_again(code: int, word: str, caplog: Any) -> None:
    async with door(refuse=(code, word)) as market, streaming(market.url, "AAPL") as live:
        await live.until(lambda: live.streamer.feed.state == "refused")
        await asyncio.sleep(1.0)
        facts = live.streamer.facts()
        assert market.attempts == 1 and not live.task.done()
        assert facts["feed"] == "refused" and word in facts["error"] and str(code) in facts["error"]
        await live.until(lambda: live.beats and live.beats[-1]["feed"] == "refused")
        assert "sandbox" not in facts["error"]  # the key


async def test_a_connection_limit_is_asked_again_later() -> None:
    async with door(refuse=(406, "connection limit exceeded")) as market:
        async with streaming(market.url, "AAPL", refused_s=0.5) as live:
            await live.until(lambda: market.attempts >= 2)
            assert live.streamer.facts()["feed"] == "refused"
            market.refuse = None
            await live.until(lambda: live.streamer.feed.state == "connected")
            assert live.streamer.facts()["error"] is None


async def test_a_connection_limit_is_waited_for_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamers.alpaca_feed.LIMIT_FIRST_S", 0.2)
    async with door(refuse=(406, "connection limit exceeded")) as market, streaming(market.url, "AAPL") as live:
        await live.until(lambda: market.attempts == 4)
        assert 0.2 + 0.4 + 0.8 - 0.1 < market.attempts_s[-1] - market.attempts_s[0] < 30
        market.refuse = None
        await live.until(lambda: live.streamer.feed.state == "connected")
        assert live.streamer.feed._limit_s == 0.2


async def test_a_key_that_worked_is_tried_again_now_and_then() -> None:
    async with door() as market, streaming(market.url, "AAPL", refused_s=0.5) as live:
        await ready(market, live)
        market.refuse = (402, "auth failed")
        await market.drop()
        await live.until(lambda: market.attempts >= 4)
        assert live.streamer.facts()["feed"] == "refused" and "402" in live.streamer.facts()["error"]
        market.refuse = None
        await live.until(lambda: live.streamer.feed.state == "connected")
        assert live.streamer.facts()["error"] is None


async def test_our_own_broken_connection_does_not_count_as_anothers() -> None:
    async with door() as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        market.refuse = (406, "connection limit exceeded")
        await market.drop()
        await live.until(lambda: market.attempts == 3)
        assert live.streamer.feed.state == "reconnecting" and not live.streamer.feed.error
        market.refuse = None
        await live.until(lambda: live.streamer.feed.state == "connected")


async def test_without_a_key_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.config.Settings.alpaca_keys", None)
    async with door() as market, streaming(market.url, "AAPL") as live:
        await live.until(lambda: live.streamer.feed.state == "no_key")
        assert "ALPACA_API_KEY" in live.streamer.facts()["error"] and market.attempts == 0


async def test_too_many_symbols_leave_those_that_are_followed() -> None:
    async with door(most_symbols=1) as market, streaming(market.url, "AAPL") as live:
        await ready(market, live)
        live.watchlist.append(stock(2, "MSFT"))
        await live.until(lambda: live.streamer.feed.error)
        await market.send(trade("AAPL", 1, 1.0))
        await live.until(lambda: len(live.queue.trades) == 1)
        assert live.streamer.feed.state == "connected" and market.attempts == 1
        live.watchlist.pop()
        await live.until(lambda: not live.streamer.feed.error)


async def test_too_many_symbols_leave_those_that_fit_after_a_reconnect() -> None:
    names = ("AAPL", "MSFT", "NVDA", "TSLA", "META")
    async with door(most_symbols=3) as market, streaming(market.url, *names, refused_s=0.5) as live:
        for attempt in (1, 2):
            await live.until(lambda: live.streamer.feed.state == "connected" and market.sockets)
            assert market.attempts == attempt and live.streamer.facts()["feed"] == "connected"
            assert live.streamer.facts()["error"].endswith("; not followed: TSLA, META")
            await market.send(*(trade(name, attempt, 1.0) for name in names))
            await live.until(lambda: len(live.queue.trades) == 3 * attempt)  # noqa: B023
            if attempt == 1:
                await market.drop()
        assert [live.queue.ids(i) for i in (1, 2, 3, 4, 5)] == [{1}, {1}, {1}, set(), set()]
        market.most_symbols = 4  # a larger plan, found without a restart
        await live.until(lambda: (live.streamer.facts()["error"] or "").endswith("; not followed: META"))
        market.most_symbols = 5
        await live.until(lambda: live.streamer.facts()["error"] is None)
        assert market.attempts == 2


async def test_a_limit_that_lets_nothing_in_is_a_refusal() -> None:
    async with door(most_symbols=0) as market, streaming(market.url, "AAPL", "MSFT", refused_s=0.5) as live:
        await live.until(lambda: market.attempts == 2)
        assert live.streamer.facts()["feed"] == "refused" and "405" in live.streamer.facts()["error"]


async def test_what_was_followed_before_a_refusal_of_the_same_change_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamers.alpaca_connection.CHUNK", 1)
    async with door(most_symbols=2) as market, streaming(market.url, "AAPL", "MSFT") as live:
        await ready(market, live)
        live.watchlist[1:] = [stock(3, "NVDA"), stock(4, "TSLA")]
        await live.until(lambda: live.streamer.feed.error)
        await market.send(trade("NVDA", 1, 1.0))
        await live.until(lambda: live.queue.ids(3))
        assert live.streamer.feed.state == "connected" and market.attempts == 1
        told = [mark.subscribed for mark in live.queue.marks if mark.subscribed]
        assert [id for id, _ in told[-1]] == [1, 3]


async def test_silence_in_the_session_replaces_the_connection() -> None:
    async with door() as market, streaming(market.url, "AAPL", stream_silence_s=0.6) as live:
        await live.until(lambda: market.attempts >= 2 and live.dropped.get("stream_silent"))


async def test_outside_the_session_it_stays_connected_and_says_closed() -> None:
    async with door(now_us=CLOSE_US + 10**9) as market, streaming(market.url, "AAPL", stream_silence_s=0.6) as live:
        await ready(market, live)
        await live.until(lambda: live.streamer.facts()["feed"] == "closed")
        await asyncio.sleep(2)
        assert market.attempts == 1 and live.streamer.facts()["feed"] == "closed"


async def test_an_empty_watchlist_is_idle() -> None:
    async with door() as market, streaming(market.url) as live:
        await live.until(lambda: live.streamer.facts()["feed"] == "idle")
        assert market.attempts == 0
        live.watchlist.append(stock(5, "AAPL"))
        await ready(market, live)
        live.watchlist.clear()
        await live.until(lambda: live.streamer.facts()["feed"] == "idle" and not market.sockets)
