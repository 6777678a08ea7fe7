"""The real yfinance against the simulated market's Yahoo door, through the platform's own source."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import orjson
import peewee
import pytest
from aiohttp import web

from app.config import load_settings
from app.domain.bars import Bar, Origin, State
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import RateLimited, SourceAway, SourceError, UnknownInstrument
from app.sandbox.truth import TrueBar
from app.sources.yahoo import YahooHistory
from app.sources.yahoo_session import YahooSession
from app.wire.yahoo import Chart, Refusal, Row, build_chart, build_refusal, parse_chart
from tests.yahoo_door import DAY_MS, Door, at, open_door

NOW = "2026-10-27T10:31:20"  # a Tuesday: Istanbul is in session, New York is not yet


def stock(symbol: str, number: int = 7) -> Instrument:
    calendar, currency = ("XIST", "TRY") if symbol.endswith(".IS") else ("XNYS", "USD")
    return Instrument(number, Exchange.YAHOO, symbol, symbol, "stock", currency, calendar, True, 2)


@pytest.fixture
def door() -> Iterator[Door]:
    with open_door("THYAO.IS", "SISE.IS", "AAPL", now=NOW) as found:
        yield found


@pytest.fixture
def source(door: Door, tmp_path: Path) -> Iterator[YahooHistory]:
    history = YahooHistory(load_settings(yahoo_api_url=door.url, data_dir=tmp_path, _env_file=None), now_us=door.now_us)
    yield history
    history.close()


def same(bars: list[Bar], truth: list[TrueBar]) -> bool:
    """Whether time, prices and volume are the true ones, exactly."""
    ours = [(b.time_ms, *(Decimal(repr(p)) for p in (b.open, b.high, b.low, b.close)), b.volume) for b in bars]
    unit = Decimal(10**8)
    theirs = [(t.time_ms, *(p / unit for p in (t.open, t.high, t.low, t.close)), t.volume / unit) for t in truth]
    return ours == theirs


@pytest.mark.parametrize("symbol", ["THYAO.IS", "SISE.IS"])
def test_minutes_are_the_true_ones_and_verified(door: Door, source: YahooHistory, symbol: str) -> None:
    start, end = at("2026-10-26T00:00"), at(NOW)
    bars = source.klines(stock(symbol), Timeframe.M1, start, end, 2000)
    assert len(bars) > 400
    assert same(bars, door.truth(symbol, start, end))
    assert {(bar.state, bar.origin, bar.trade_count, bar.instrument_id) for bar in bars} == {
        (State.VERIFIED, Origin.EXCHANGE, 0, 7)
    }
    first = bars[0]
    assert abs(first.quote_volume - first.volume * Decimal(str(first.close))) < first.quote_volume / 100
    assert [b.time_ms for b in source.klines(stock(symbol), Timeframe.M1, start, end, 5)] == [
        b.time_ms for b in bars[:5]
    ]


def test_the_minute_that_is_not_over_is_left_out(door: Door, source: YahooHistory) -> None:
    last = source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-27T10:00"), at("2026-10-27T11:00"))[-1]
    assert last.time_ms == at("2026-10-27T10:30")
    door.now_ms = at("2026-10-27T10:32")
    last = source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-27T10:00"), at("2026-10-27T11:00"))[-1]
    assert last.time_ms == at("2026-10-27T10:31")


def test_a_long_stretch_takes_several_requests(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-10-01T00:00"), at("2026-10-25T00:00")
    source.klines(stock("SISE.IS"), Timeframe.M1, end, end + DAY_MS)  # the time zone is asked for once, too
    door.charts()
    bars = source.klines(stock("SISE.IS"), Timeframe.M1, start, end, 20_000)
    assert same(bars, door.truth("SISE.IS", start, end))
    assert len(door.charts()) == 4
    assert source.weight(Timeframe.M1, start, end, 20_000) == 4


@pytest.mark.parametrize("tf", [Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4])
@pytest.mark.parametrize("symbol", ["THYAO.IS", "AAPL"])
def test_longer_bars_are_the_true_ones(door: Door, source: YahooHistory, tf: Timeframe, symbol: str) -> None:
    start, end = at("2026-10-20T00:00"), at(NOW)
    bars = source.klines(stock(symbol), tf, start, end, 5000)
    assert bars
    assert same(bars, door.truth(symbol, start, end, tf.ms))


def test_daily_bars_stand_under_their_sessions_date(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-09-01T00:00"), at("2026-10-28T00:00")
    for symbol in ("THYAO.IS", "AAPL"):
        bars = source.klines(stock(symbol), Timeframe.D1, start, end)
        assert same(bars, door.truth(symbol, start, end, DAY_MS))
        assert bars[-1].time_ms == at("2026-10-26T00:00")  # today's is not over
    door.now_ms = at("2026-10-28T10:00")  # half a day, then a holiday
    bars = source.klines(stock("THYAO.IS"), Timeframe.D1, at("2026-10-26T00:00"), at("2026-11-01T00:00"))
    assert [bar.time_ms for bar in bars] == [at("2026-10-26T00:00"), at("2026-10-27T00:00"), at("2026-10-28T00:00")]
    assert same(bars, door.truth("THYAO.IS", at("2026-10-26T00:00"), at("2026-11-01T00:00"), DAY_MS))


def test_a_delayed_feed_gives_bars_once_they_are_whole(tmp_path: Path) -> None:
    with open_door("THYAO.IS", now=NOW, delay_s=900) as door:
        settings = load_settings(yahoo_api_url=door.url, data_dir=tmp_path, _env_file=None)
        source = YahooHistory(settings, now_us=door.now_us)
        bars = source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-27T10:00"), at(NOW))
        assert bars[-1].time_ms == at("2026-10-27T10:15")
        assert same(bars, door.truth("THYAO.IS", at("2026-10-27T10:00"), at("2026-10-27T10:16")))
        source.close()


def test_a_stretch_without_bars_is_empty(source: YahooHistory) -> None:
    assert source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-24T00:00"), at("2026-10-25T00:00")) == []
    assert source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-27T12:00"), at("2026-10-27T13:00")) == []


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1m", "2026-10-24T00:00", "2026-10-26T00:00"),  # a weekend
        ("1d", "2026-10-24T00:00", "2026-10-26T00:00"),
        ("1d", "1999-01-01T00:00", "1999-02-01T00:00"),  # before the listing
        ("1m", "2026-10-28T07:00", "2026-10-28T08:00"),  # to come
    ],
)
def test_where_nobody_could_trade_the_door_says_so_in_yahoos_words(
    door: Door, interval: str, start: str, end: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        raw(door, "THYAO.IS", interval, at(start), at(end))
    assert refused.value.code == 400
    words = f"Data doesn't exist for startDate = {at(start) // 1000}, endDate = {at(end) // 1000}"
    assert parse_chart(refused.value.read()) == Refusal("Bad Request", words)


def no_data(status: int) -> web.Response:
    body = build_refusal("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


@pytest.mark.parametrize("status", [200, 400])
def test_yahoos_word_for_no_bars_is_an_answer_about_a_stretch_only(
    door: Door, source: YahooHistory, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, end = at("2026-10-26T00:00"), at("2026-10-26T08:00")
    with monkeypatch.context() as patched:
        patched.setattr("yfinance.cache._TzCache.lookup", lambda *_: None)
        door.instead = once(no_data(status))  # type: ignore[assignment]
        with pytest.raises(SourceError, match="Data doesn't exist"):  # of the last day, for the time zone
            source.klines(stock("SISE.IS"), Timeframe.M1, start, end)
    assert source.klines(stock("SISE.IS"), Timeframe.M1, start, end)
    door.charts()
    door.instead = once(no_data(status))  # type: ignore[assignment]
    assert source.klines(stock("SISE.IS"), Timeframe.M1, start, end) == []
    assert len(door.charts()) == 1


def shifted(door: Door, *astray: int) -> web.Response:
    """Four rows of a morning, those at the places `astray` 17 s late."""
    first = at("2026-10-26T08:00") // 1000
    meta = raw(door, "THYAO.IS", "1m", at("2026-10-26T07:00"), at("2026-10-26T08:00")).meta
    rows = [Row(first + 60 * n + (17 if n in astray else 0), 300.0, 301.0, 299.0, 300.5, 10) for n in range(4)]
    body = build_chart(meta, rows, interval="1m", periods=[meta.period] if meta.period else [])
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def test_a_row_at_no_full_step_costs_only_itself(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-10-26T08:00"), at("2026-10-26T08:04")
    source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    door.instead = once(shifted(door, 1))  # type: ignore[assignment]
    bars = source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    assert [bar.time_ms for bar in bars] == [start, start + 120_000, start + 180_000]
    door.instead = once(shifted(door, 0, 1, 2, 3))  # type: ignore[assignment]
    with pytest.raises(SourceError, match="do not begin at full 1m steps"):
        source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)


@pytest.mark.parametrize(
    "error", [peewee.OperationalError("database or disk is full"), OSError(28, "No space left"), OverflowError("big")]
)
def test_trouble_with_yfinances_own_files_is_a_source_that_is_away(
    source: YahooHistory, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("yfinance.Ticker.history", fail)
    monkeypatch.setattr("app.sources.yahoo_session.YfData.get", fail)
    with pytest.raises(SourceAway):
        source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-26T08:00"), at("2026-10-26T09:00"))
    with pytest.raises(SourceAway):
        source.describe("THYAO.IS")


def test_a_full_disk_is_no_stretch_without_bars(
    door: Door, source: YahooHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer about the time zone may have no rows; that yfinance cannot keep it says nothing of the stretch."""

    def fail(*args: object) -> None:
        raise peewee.OperationalError("database or disk is full")

    meta = raw(door, "THYAO.IS", "1m", at("2026-10-26T07:00"), at("2026-10-26T08:00")).meta
    door.instead = once(web.json_response(build_chart(meta, [], interval="1d", span="1d")))  # type: ignore[assignment]
    monkeypatch.setattr("yfinance.cache._TzCache.lookup", lambda *_: None)
    monkeypatch.setattr("yfinance.cache._TzCache.store", fail)
    with pytest.raises(SourceAway, match="disk is full"):
        source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-10-26T08:00"), at("2026-10-26T09:00"))


def test_a_folder_that_cannot_be_made_is_a_source_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceAway, match="cannot be made"):
        YahooSession("http://127.0.0.1:9", tmp_path / "file" / "yahoo")


def test_refusals_come_in_yahoos_own_words(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-10-26T00:00"), at(NOW)
    with pytest.raises(UnknownInstrument, match=r"NOBODY\.IS: No data found, symbol may be delisted"):
        source.klines(stock("NOBODY.IS"), Timeframe.M1, start, end)
    assert door.charts() == ["NOBODY.IS"]  # asked once, not again with other cookies
    with pytest.raises(UnknownInstrument, match="No data found"):
        source.describe("NOBODY.IS")
    with pytest.raises(SourceError, match="within the last 30 days") as refusal:
        source.klines(stock("THYAO.IS"), Timeframe.M1, at("2026-09-01T00:00"), at("2026-09-02T00:00"))
    assert not isinstance(refusal.value, SourceAway)


def test_a_symbol_is_described(source: YahooHistory) -> None:
    found = source.describe("THYAO.IS")
    assert (found.symbol, found.currency, found.exchange, found.price_decimals) == ("THYAO.IS", "TRY", "Istanbul", 2)
    assert found.name == "TURK HAVA YOLLARI"
    assert source.describe("AAPL").exchange == "NasdaqGS"


def once(answer: web.Response) -> object:
    left = [answer]
    return lambda request: left.pop() if left else None


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (429, "Too Many Requests\r\n", {"Retry-After": "17"}, RateLimited),
        (429, "Too Many Requests\r\n", {}, RateLimited),
        (500, "Internal Server Error", {}, SourceAway),
        (503, "Service Unavailable", {"Retry-After": "1"}, SourceAway),
        (200, '{"chart": {"result": [{"meta', {}, SourceAway),
        (200, "<html>Will be right back</html>", {}, SourceAway),
        (200, '{"chart": {"result": null, "error": null}}', {}, SourceAway),
    ],
)
def test_failures_are_told_apart_and_not_kept(
    door: Door, source: YahooHistory, status: int, body: str, headers: dict[str, str], error: type[Exception]
) -> None:
    start, end = at("2026-10-26T00:00"), at("2026-10-26T08:00")
    source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    door.charts()
    door.instead = once(web.Response(status=status, text=body, headers=headers))  # type: ignore[assignment]
    with pytest.raises(error) as caught:
        source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == float(headers.get("Retry-After", 60))
    assert len(door.charts()) == 1
    # A failure of a past stretch is not what the next request is answered with.
    assert same(source.klines(stock("THYAO.IS"), Timeframe.M1, start, end), door.truth("THYAO.IS", start, end))


def test_a_truncated_answer_and_nobody_there_are_a_source_that_is_away(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-10-26T00:00"), at("2026-10-26T08:00")
    cut = web.Response(text="half", headers={"Content-Length": "4000"})
    cut.force_close()
    door.instead = once(cut)  # type: ignore[assignment]
    with pytest.raises(SourceAway):
        source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    gone = YahooHistory(
        load_settings(yahoo_api_url="http://127.0.0.1:9", data_dir=source._settings.data_dir, _env_file=None),
        now_us=door.now_us,
    )
    with pytest.raises(SourceAway, match="does not answer"):
        gone.klines(stock("THYAO.IS"), Timeframe.M1, start, end)
    gone.close()


def test_a_refused_cookie_is_fetched_anew(door: Door, source: YahooHistory) -> None:
    start, end = at("2026-10-26T00:00"), at("2026-10-26T08:00")
    door.instead = once(web.json_response({"finance": {"error": {"code": "Unauthorized"}}}, status=401))  # type: ignore[assignment]
    assert source.klines(stock("THYAO.IS"), Timeframe.M1, start, end)


def raw(door: Door, symbol: str, interval: str, start_ms: int, end_ms: int) -> Chart:
    """The chart as it is on the wire."""
    span = f"period1={start_ms // 1000}&period2={end_ms // 1000}"
    with urllib.request.urlopen(
        f"{door.url}/v8/finance/chart/{symbol}?interval={interval}&{span}", timeout=10
    ) as answer:
        chart = parse_chart(answer.read())
    assert isinstance(chart, Chart)
    return chart


def test_the_door_speaks_like_yahoo(door: Door) -> None:
    chart = raw(door, "SISE.IS", "1m", at("2026-10-26T00:00"), at(NOW))
    assert chart.meta.price_time_s == at(NOW) // 1000
    period = chart.meta.period
    assert period is not None
    assert (period.start_s * 1000, period.end_s * 1000) == (at("2026-10-27T06:55"), at("2026-10-27T15:10"))
    assert [row for row in chart.rows if row.close is None]
    assert [row for row in chart.rows if row.close is not None and round(row.close, 2) != row.close]
    rows = raw(door, "THYAO.IS", "1m", at("2026-10-26T00:00"), at(NOW)).rows
    assert rows[-1].time_s == at(NOW) // 1000  # the minute that is not over, under the time of its last trade
    assert all(row.time_s % 60 == 0 for row in rows[:-1])


def test_hours_of_yahoo_begin_with_the_session(door: Door) -> None:
    rows = raw(door, "AAPL", "1h", at("2026-10-26T00:00"), at("2026-10-27T00:00")).rows
    first = at("2026-10-26T13:30") // 1000
    assert [row.time_s for row in rows] == [first + 3600 * n for n in range(7)]
