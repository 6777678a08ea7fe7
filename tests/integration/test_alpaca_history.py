"""Alpaca's history through alpaca-py, against a server that answers by the script: pages, hours, every refusal."""

from __future__ import annotations

import socketserver
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse

import orjson
import pytest

from app.config import load_settings
from app.domain.bars import Origin, State
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import ConfigError, Forbidden, RateLimited, SourceAway, SourceError, UnknownInstrument
from app.sources.alpaca import AlpacaHistory
from app.wire import alpaca as wire
from app.wire import alpaca_values as values
from app.wire import numbers
from tests.alpaca_door import stock

AAPL = stock(1, "AAPL")


def ms(text: str) -> int:
    return numbers.parse_time(text) // 1000


# Friday and Monday around the change to summer time: 14:30 to 21:00 UTC, then 13:30 to 20:00.
SESSIONS = [
    Session(ms("2024-03-08T00:00:00Z"), ms("2024-03-08T14:30:00Z"), ms("2024-03-08T21:00:00Z")),
    Session(ms("2024-03-11T00:00:00Z"), ms("2024-03-11T13:30:00Z"), ms("2024-03-11T20:00:00Z")),
]
OPEN, DAY = SESSIONS[0].open_ms, SESSIONS[0].date_ms
LENGTHS = {"1Min": 1, "5Min": 5, "15Min": 15}


def row(time_ms: int, number: int) -> values.BarRow:
    price = 100 + number / 100
    return values.BarRow(
        "AAPL", time_ms, price, price + 1, price - 1, price + 0.5, Decimal(10 + number), Decimal(100), 2
    )


@dataclass
class Market:
    """Answers bars every minute of the day, session or not; `answer` may answer in its place."""

    url: str = ""
    page: int = 10_000  # bars of an answer, whatever is asked for
    answer: Callable[[BaseHTTPRequestHandler], bool] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)

    def bars(self, query: dict[str, str]) -> dict[str, Any]:
        """The answer of `/v2/stocks/bars`."""
        lo, hi = ms(query.get("page_token") or query["start"]), ms(query["end"])
        if query["timeframe"] == "1Day":
            midnights = (ms("2024-03-08T05:00:00Z"), ms("2024-03-11T04:00:00Z"), ms("2024-03-12T04:00:00Z"))
            times = [time for time in midnights if lo <= time <= hi]
        else:
            length = LENGTHS[query["timeframe"]] * MINUTE_MS
            times = list(range(-(-lo // length) * length, hi + 1, length))
        most = min(int(query["limit"]), self.page)
        rows = [wire.build_bar_row(row(time, time // MINUTE_MS % 1000)) for time in times[:most]]
        token = numbers.rfc3339(times[most] * 1000) if len(times) > most else None
        return {"bars": {"AAPL": rows} if rows else {}, "next_page_token": token}


@contextmanager
def market() -> Iterator[Market]:
    """A market on a free port, in a thread."""
    held = Market()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: found[0] for name, found in parse_qs(urlparse(self.path).query).items()}
            held.asked.append({**query, "path": urlparse(self.path).path, "key": self.headers["APCA-API-KEY-ID"]})
            if not (held.answer and held.answer(self)):
                say(self, 200, held.bars(query))

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a client that hung up

    server: socketserver.BaseServer = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[str-bytes-safe]
    try:
        yield held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> bool:
    """Answers with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)
    return True


@contextmanager
def history(
    url: str, *, now: str = "2024-03-12T00:00:00Z", sessions: list[Session] | None = None, **options: Any
) -> Iterator[AlpacaHistory]:
    timeout_s = options.pop("timeout_s", 10.0)
    settings = load_settings(alpaca_api_url=url, alpaca_trading_url=url, _env_file=None, **options)
    known = SESSIONS if sessions is None else sessions
    source = AlpacaHistory(
        settings, sessions=lambda _calendar, _lo, _hi: known, now_us=lambda: ms(now) * 1000, timeout_s=timeout_s
    )
    try:
        yield source
    finally:
        source.close()


def test_minutes_of_the_session_in_the_exchanges_words() -> None:
    with market() as there, history(there.url) as source:
        bars = source.klines(AAPL, Timeframe.M1, OPEN - 10 * MINUTE_MS, OPEN + 5 * MINUTE_MS)
        assert [bar.time_ms for bar in bars] == [OPEN + i * MINUTE_MS for i in range(5)]
        first, told = bars[0], row(OPEN, OPEN // MINUTE_MS % 1000)
        assert (first.open, first.high, first.low, first.close) == (told.open, told.high, told.low, told.close)
        assert (first.volume, first.quote_volume, first.trade_count) == (told.volume, told.volume * 100, 2)
        assert (first.state, first.origin, first.instrument_id) == (State.VERIFIED, Origin.EXCHANGE, 1)
        (asked,) = there.asked
        assert (asked["path"], asked["symbols"], asked["key"]) == ("/v2/stocks/bars", "AAPL", "sandbox")
        assert (asked["timeframe"], asked["feed"], asked["adjustment"]) == ("1Min", "iex", "raw")


def test_extended_hours_widen_the_day() -> None:
    with market() as there, history(there.url, extended_hours=True) as source:
        bars = source.klines(AAPL, Timeframe.M1, DAY, DAY + DAY_MS + 60 * MINUTE_MS, 10_000)
        assert bars[0].time_ms == ms("2024-03-08T09:00:00Z") and bars[-1].time_ms == ms("2024-03-09T00:59:00Z")


def test_where_no_session_is_known_every_bar_is_kept() -> None:
    with market() as there, history(there.url, sessions=[]) as source:
        assert len(source.klines(AAPL, Timeframe.M1, DAY, DAY + 10 * MINUTE_MS)) == 10


@pytest.mark.parametrize(("limit", "page"), [(400, 10_000), (400, 7), (100, 33), (1, 10_000), (391, 10_000)])
def test_pages_are_read_until_the_end_or_the_limit(limit: int, page: int) -> None:
    with market() as there, history(there.url) as source:
        there.page = page
        start, end = OPEN - 200 * MINUTE_MS, SESSIONS[0].close_ms + 100 * MINUTE_MS
        bars = source.klines(AAPL, Timeframe.M1, start, end, limit)
        assert [bar.time_ms for bar in bars] == [OPEN + i * MINUTE_MS for i in range(min(limit, 390))]


def test_an_open_bar_is_left_out() -> None:
    with market() as there, history(there.url, now="2024-03-08T14:35:30Z") as source:
        bars = source.klines(AAPL, Timeframe.M1, OPEN, OPEN + 60 * MINUTE_MS)
        assert len(bars) == 5
        assert len(source.klines(AAPL, Timeframe.M5, OPEN, OPEN + 60 * MINUTE_MS)) == 1
        assert source.klines(AAPL, Timeframe.M15, OPEN, OPEN + 60 * MINUTE_MS) == []
        assert source.klines(AAPL, Timeframe.M1, OPEN + 3600_000, OPEN + 7200_000) == []


@pytest.mark.parametrize("timeframe", [Timeframe.H1, Timeframe.H4])
@pytest.mark.parametrize("limit", [2, 1000])
def test_long_bars_hold_the_session_alone(timeframe: Timeframe, limit: int) -> None:
    with market() as there, history(there.url) as source:
        lo, hi = DAY, SESSIONS[1].date_ms + DAY_MS
        bars = source.klines(AAPL, timeframe, lo, hi, limit)
        quarters = source.klines(AAPL, Timeframe.M15, lo, hi, 10_000)
    groups: dict[int, list[Any]] = {}
    for quarter in quarters:
        groups.setdefault(timeframe.floor(quarter.time_ms), []).append(quarter)
    assert [bar.time_ms for bar in bars] == list(groups)[:limit]
    for bar in bars:
        parts = groups[bar.time_ms]
        assert (bar.open, bar.close) == (parts[0].open, parts[-1].close)
        assert (bar.high, bar.low) == (max(p.high for p in parts), min(p.low for p in parts))
        assert (bar.volume, bar.trade_count) == (sum(p.volume for p in parts), sum(p.trade_count for p in parts))
    assert bars[0].time_ms == timeframe.floor(OPEN)


def test_daily_bars_carry_the_sessions_date_and_wait_for_its_close() -> None:
    first, second = (session.date_ms for session in SESSIONS)
    with market() as there, history(there.url) as source:
        assert [b.time_ms for b in source.klines(AAPL, Timeframe.D1, first, second + DAY_MS)] == [first, second]
        assert [b.time_ms for b in source.klines(AAPL, Timeframe.D1, first + 1, second + DAY_MS)] == [second]
        assert [b.time_ms for b in source.klines(AAPL, Timeframe.D1, first, second)] == [first]
        assert [b.time_ms for b in source.klines(AAPL, Timeframe.D1, first, second + DAY_MS, 1)] == [first]
    with market() as there, history(there.url, now="2024-03-11T19:59:59Z") as source:
        assert [b.time_ms for b in source.klines(AAPL, Timeframe.D1, first, second + DAY_MS)] == [first]


def ask(source: AlpacaHistory) -> Any:
    return source.klines(AAPL, Timeframe.M1, OPEN, OPEN + MINUTE_MS)


@pytest.mark.parametrize(
    ("status", "body", "error", "word"),
    [
        (401, {"message": "forbidden."}, Forbidden, "forbidden"),
        (403, {"message": "subscription does not permit"}, Forbidden, "does not permit"),
        (400, {"message": "invalid symbol: AAPL"}, UnknownInstrument, "invalid symbol: AAPL"),
        (422, {"code": 42210000, "message": "unknown symbol"}, UnknownInstrument, "unknown symbol"),
        (400, {"message": "end should not be before start"}, SourceError, "end should not"),
        (500, {"message": "internal"}, SourceAway, "500"),
        (503, b"<html>", SourceAway, "503"),
        (200, b"<html>", SourceAway, "not JSON"),
        (200, b"", SourceAway, "does not document"),
        (200, [], SourceAway, "does not document"),
        (200, {"bars": None}, SourceAway, "does not document"),
        (200, {"bars": {"AAPL": [{"t": 5}]}, "next_page_token": None}, SourceAway, "broken reply"),
        (200, {"bars": {"AAPL": 7}}, SourceAway, "does not document"),
    ],
)
def test_refusals_become_ours_and_nothing_is_asked_twice(
    status: int, body: Any, error: type[Exception], word: str
) -> None:
    with market() as there, history(there.url) as source:
        there.answer = lambda handler: say(handler, status, body)
        with pytest.raises(error, match=word) as caught:
            ask(source)
        assert type(caught.value) is error
        assert len(there.asked) == 1 and "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [({}, 60, 60), ({"Retry_After": "7"}, 7, 7), ({"X_RateLimit_Reset": "20"}, 15, 20), ({"Retry_After": "x"}, 60, 60),
     ({"X_RateLimit_Reset": "99999"}, 60, 60)],
)  # fmt: skip
def test_a_rate_limit_says_how_long(headers: dict[str, str], least: float, most: float) -> None:
    if "X_RateLimit_Reset" in headers:
        headers = {"X_RateLimit_Reset": str(int(time.time()) + int(headers["X_RateLimit_Reset"]))}
    with market() as there, history(there.url) as source:
        there.answer = lambda handler: say(handler, 429, {"message": "too many requests."}, **headers)
        with pytest.raises(RateLimited, match="too many requests") as caught:
            ask(source)
        assert least <= caught.value.retry_after_s <= most and len(there.asked) == 1


def test_a_slow_a_torn_and_a_missing_answer_are_a_source_away() -> None:
    def slow(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(3.0)
        return False

    def torn(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"bars": {')
        return True

    with market() as there, history(there.url, timeout_s=1.5) as source:
        for answer in (slow, torn):
            there.answer = answer
            with pytest.raises(SourceAway, match="does not answer"):
                ask(source)
        there.answer = None
        assert len(ask(source)) == 1
        url = there.url
    with history(url) as source, pytest.raises(SourceAway, match="ConnectionError"):
        ask(source)


def test_assets() -> None:
    asset = values.Asset("BRK.B", "Berkshire", "NYSE", "inactive", False)

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path == "/v2/assets/BRK.B":
            return say(handler, 200, wire.build_asset(asset))
        return say(handler, 404, {"code": 40410000, "message": "asset not found for NOPE/X"})

    with market() as there, history(there.url) as source:
        there.answer = answer
        assert source.asset("BRK.B") == asset
        with pytest.raises(UnknownInstrument, match="asset not found for NOPE/X"):
            source.asset("NOPE/X")
        assert there.asked[-1]["path"] == "/v2/assets/NOPE%2FX"
        there.answer = lambda handler: say(handler, 200, {"symbol": 5})
        with pytest.raises(SourceAway, match="does not document"):
            source.asset("AAPL")


def test_without_keys_it_is_not_built() -> None:
    with pytest.raises(ConfigError, match="ALPACA_API_KEY"):
        with history("http://127.0.0.1:1", market="live"):
            pass
    settings = load_settings(alpaca_api_key="k", alpaca_secret_key="s", market="live", _env_file=None)
    assert settings.alpaca_keys == ("k", "s")


def test_weight_counts_pages() -> None:
    week = 7 * DAY_MS
    assert AlpacaHistory.weight(Timeframe.M1, 0, week, 1000) == 1
    assert AlpacaHistory.weight(Timeframe.M1, 0, 2 * week, 20_160) == 3
    assert AlpacaHistory.weight(Timeframe.H4, 0, 200 * week, 10_000) == 14
    assert AlpacaHistory.weight(Timeframe.D1, 0, 0, 10) == 0
