"""Every REST fault on Alpaca's and Yahoo's doors, met by the real alpaca-py and yfinance through our sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import load_settings
from app.domain.instruments import Exchange, Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import Forbidden, PlatformError, RateLimited, SourceAway
from app.sources.alpaca import AlpacaHistory
from app.sources.yahoo import YahooHistory
from tests.sandbox import RunningSandbox, start_sandbox

NOW_MS = 1_760_020_200_000 // MINUTE_MS * MINUTE_MS  # 2025-10-09T14:30, a Thursday: both exchanges are in session
START, END = NOW_MS - 50 * MINUTE_MS, NOW_MS - 20 * MINUTE_MS
STOCKS = {
    "alpaca": Instrument(9, Exchange.ALPACA, "AAPL", "AAPL", "stock", "USD", "XNYS", True, 2),
    "yahoo": Instrument(13, Exchange.YAHOO, "THYAO.IS", "THYAO.IS", "stock", "TRY", "XIST", True, 2),
}
type Source = AlpacaHistory | YahooHistory


@pytest.fixture(scope="module")
def market() -> Iterator[RunningSandbox]:
    """Two stocks, whose clock waits in the middle of a session."""
    with start_sandbox(
        history_hours=30, paused=True, symbols="BTC/USDT", stocks="AAPL,THYAO.IS", start="2025-10-09T14:30"
    ) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(market: RunningSandbox) -> Iterator[RunningSandbox]:
    """The market without a fault."""
    yield market
    market.post("/sandbox/faults/clear")


def _sessions(calendar: str, lo_ms: int, hi_ms: int) -> list[Session]:
    day = NOW_MS // DAY_MS * DAY_MS
    return [Session(day, day + 810 * MINUTE_MS, day + 1200 * MINUTE_MS)]


@pytest.fixture(params=["alpaca", "yahoo"])
def source(request: pytest.FixtureRequest, sandbox: RunningSandbox, tmp_path: Path) -> Iterator[Source]:
    """Our source of one exchange, which has been asked once: cookie, crumb and time zone are known."""
    settings = load_settings(
        alpaca_api_url=sandbox.url,
        alpaca_trading_url=sandbox.url,
        yahoo_api_url=sandbox.url,
        data_dir=tmp_path,
        _env_file=None,
    )
    source: Source
    if request.param == "alpaca":
        source = AlpacaHistory(settings, sessions=_sessions, now_us=lambda: NOW_MS * 1000, timeout_s=4)
    else:
        source = YahooHistory(settings, now_us=lambda: NOW_MS * 1000)
    assert len(_bars(source)) > 10
    yield source
    source.close()


def _name(source: Source) -> str:
    return "alpaca" if isinstance(source, AlpacaHistory) else "yahoo"


def _bars(source: Source) -> list[Any]:
    return source.klines(STOCKS[_name(source)], Timeframe.M1, START, END)


CASES: list[tuple[dict[str, Any], type[PlatformError]]] = [
    ({"kind": "status", "status": 429, "retry_after_s": 7}, RateLimited),
    ({"kind": "status", "status": 500}, SourceAway),
    ({"kind": "status", "status": 502}, SourceAway),
    ({"kind": "status", "status": 503}, SourceAway),
    ({"kind": "truncated"}, SourceAway),
    ({"kind": "malformed"}, SourceAway),
    ({"kind": "refused"}, SourceAway),
]


@pytest.mark.parametrize(("fault", "error"), CASES, ids=lambda value: str(value)[:40])
def test_each_fault_is_its_error_and_leaves_no_trace(
    sandbox: RunningSandbox, source: Source, fault: dict[str, Any], error: type[PlatformError]
) -> None:
    """Our error, with the seconds to wait and without the address; the next answer is whole again."""
    whole = _bars(source)
    options = {name: value for name, value in fault.items() if name != "kind"}
    sandbox.fault(fault["kind"], exchange=_name(source), **options)
    with pytest.raises(error) as caught:
        _bars(source)
    assert sandbox.url.rpartition(":")[2] not in str(caught.value)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == 7
    (fired,) = (one["fired"] for one in sandbox.get("/sandbox/faults")["faults"])
    assert 1 <= fired <= 4, "no client asks again and again"
    sandbox.post("/sandbox/faults/clear")
    assert _bars(source) == whole


def test_a_refused_key_is_forbidden_and_a_refused_cookie_fetched_anew(sandbox: RunningSandbox, source: Source) -> None:
    """Asking again is no use with a key; Yahoo's cookie is fetched anew once, and then it is away."""
    whole = _bars(source)
    sandbox.fault("unauthorized", exchange=_name(source))
    with pytest.raises(Forbidden if _name(source) == "alpaca" else SourceAway):
        _bars(source)
    sandbox.post("/sandbox/faults/clear")
    assert _bars(source) == whole


def test_a_fault_of_the_other_exchange_is_none(sandbox: RunningSandbox, source: Source) -> None:
    """Both doors of one stock market fail apart."""
    sandbox.fault("refused", exchange="yahoo" if _name(source) == "alpaca" else "alpaca")
    assert len(_bars(source)) > 10
    assert [one["fired"] for one in sandbox.get("/sandbox/faults")["faults"]] == [0]


def test_a_slow_answer_ends_in_time(sandbox: RunningSandbox, source: Source) -> None:
    """One that comes within the time-out is an answer; Alpaca's client waits no longer than ours says."""
    sandbox.fault("slow", duration_s=0.3)
    assert len(_bars(source)) > 10
    if isinstance(source, AlpacaHistory):
        sandbox.post("/sandbox/faults/clear")
        sandbox.fault("slow", duration_s=5, exchange="alpaca")
        with pytest.raises(SourceAway):
            _bars(source)
