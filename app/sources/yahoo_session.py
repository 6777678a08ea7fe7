"""yfinance as a client that says what went wrong: its session, and its errors as ours.

yfinance hides errors in empty frames, asks a refused request again with another cookie, and keeps answers of the past,
failures too. So its session judges each answer itself, and an answer that is none of Yahoo's charts never gets further.
"""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import yfinance
from curl_cffi.requests import Response, Session
from curl_cffi.requests.exceptions import RequestException
from peewee import PeeweeException
from yfinance.data import YfData
from yfinance.exceptions import YFException, YFRateLimitError

from app.domain.timeframes import Timeframe
from app.errors import RateLimited, SourceAway, SourceError, UnknownInstrument, WireError
from app.wire.yahoo import Chart, Refusal, parse_chart

# The library's own use of pandas: of no use to who reads our logs.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="yfinance")

HOST = "yahoo.com"
CHART = "/v8/finance/chart/"
TIMEOUT_S, COOKIE_TIMEOUT_S = 10.0, 2.0  # the cookie and crumb are worth less waiting: charts come without them
DEFAULT_WAIT_S = 60.0  # where a refusal does not say how long
NOTHING = "Data doesn't exist"  # how Yahoo's word begins where a stretch has no bar: holidays, before the listing
# What fails on this side of the wire: yfinance keeps cookies and time zones in SQLite files, through peewee. The
# exceptions of requests are OSErrors too.
_OWN = (OSError, PeeweeException)
_UNREADABLE = (YFException, KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError)


class NoBars(SourceError):
    """Raised where Yahoo's answer is that the stretch has no bars."""


class _Judge(Session[Response]):
    """A session that goes to `base` where that is not Yahoo's own, and raises our errors for charts that are none."""

    def __init__(self, base: str) -> None:
        # The TLS of a browser: Yahoo refuses other clients.
        super().__init__(impersonate="chrome")
        parts = urlsplit(base)
        self._base = None if (parts.hostname or "").endswith(HOST) else f"{parts.scheme}://{parts.netloc}"
        self.chart: Chart | None = None

    def request(self, method: Any, url: str, **options: Any) -> Response:  # type: ignore[override]  # passed on
        """The answer; raises RateLimited, UnknownInstrument, SourceAway, NoBars or SourceError."""
        path = urlsplit(url).path
        if self._base is not None:
            url = self._base + url[len("https://") + len(urlsplit(url).netloc) :]
        if asked := CHART in path:
            self.chart = None
        options["timeout"] = TIMEOUT_S if asked else COOKIE_TIMEOUT_S
        answer = super().request(method, url, **options)
        if answer.status_code in (418, 429):
            wait = str(answer.headers.get("Retry-After") or "")
            seconds = float(wait) if wait.isdigit() else DEFAULT_WAIT_S
            raise RateLimited("Yahoo: too many requests", retry_after_s=seconds)
        if asked:
            stretch = "period1" in (options.get("params") or {})
            self.chart = _judged(answer, path.removeprefix(CHART), stretch=stretch)
        return answer


def _judged(answer: Response, symbol: str, *, stretch: bool) -> Chart | None:
    """The answer's chart; None where yfinance may try another cookie. NoBars is an answer only about a `stretch`."""
    status = answer.status_code
    if status >= 500:
        raise SourceAway(f"Yahoo failed with status {status} for {symbol}")
    if status in (401, 403):
        return None
    try:
        chart = parse_chart(answer.content)
    except WireError as error:
        if status >= 400:
            raise SourceError(f"Yahoo failed with status {status} for {symbol}") from error
        raise SourceAway(str(error)) from error
    if not isinstance(chart, Refusal):
        return chart
    word = chart.description or chart.code or "no reason given"
    if status == 404 or chart.code == "Not Found":
        raise UnknownInstrument(f"Yahoo does not know {symbol}: {word}")
    if stretch and status in (200, 400) and chart.description.startswith(NOTHING):
        raise NoBars(f"{symbol}: {word}")
    raise SourceError(f"Yahoo refused {symbol}: {word}")


class YahooSession:
    """One conversation with Yahoo; cookies and time zones are kept in `folder`."""

    def __init__(self, base: str, folder: Path) -> None:
        """Raises SourceAway where the folder cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceAway(f"yfinance's folder {folder} cannot be made: {error}") from error
        yfinance.set_tz_cache_location(str(folder))
        yfinance.config.debug.hide_exceptions = False
        self._judge = _Judge(base)

    def close(self) -> None:
        """Close the connection."""
        self._judge.close()

    def history(self, symbol: str, asked: Timeframe, lo_ms: int, hi_ms: int) -> tuple[pd.DataFrame | None, Chart]:
        """The bars of [lo, hi) as yfinance's table (None where there are none), and the chart they came in.

        Raises NoBars where Yahoo says so in place of a chart.
        """
        self._forget()
        ticker = yfinance.Ticker(symbol, session=self._judge)
        start, end = (_date(lo_ms), _date(hi_ms)) if asked is Timeframe.D1 else (lo_ms // 1000, hi_ms // 1000)
        try:
            frame = ticker.history(
                interval=asked.value, start=start, end=end, auto_adjust=False, actions=False, prepost=False,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except (*_UNREADABLE, *_OWN) as error:
            chart = self._judge.chart
            if chart is not None and not chart.rows and not isinstance(error, _OWN):
                return None, chart  # yfinance has an error for a stretch without bars
            raise _ours(error, symbol) from error
        chart = self._judge.chart
        if chart is None:
            raise SourceAway(f"Yahoo refuses cookie and crumb for {symbol}")
        return (None if frame.empty else frame), chart

    def ask(self, symbol: str) -> Chart:
        """The chart of the symbol's last day, for its meta."""
        self._forget()
        url = f"https://query2.finance.yahoo.com{CHART}{symbol}"
        try:
            YfData(session=self._judge).get(url=url, params={"range": "1d", "interval": "1d"}, timeout=TIMEOUT_S)
        except (YFException, ArithmeticError, *_OWN) as error:
            raise _ours(error, symbol) from error
        if self._judge.chart is None:
            raise SourceAway(f"Yahoo refuses cookie and crumb for {symbol}")
        return self._judge.chart

    def _forget(self) -> None:
        """Drops the answers yfinance keeps of stretches it takes for past: by the machine's clock, refusals too."""
        YfData.cache_get.cache_clear()


def _ours(error: Exception, symbol: str) -> Exception:
    if isinstance(error, YFRateLimitError):
        return RateLimited("Yahoo: too many requests", retry_after_s=DEFAULT_WAIT_S)
    if isinstance(error, RequestException):
        return SourceAway(f"Yahoo does not answer ({type(error).__name__})")
    if isinstance(error, _OWN):
        return SourceAway(f"yfinance's own files fail ({error!r})"[:300])
    if isinstance(error, YFException):
        return SourceError(f"Yahoo: {str(error)[:200]}")
    return SourceAway(f"Yahoo answered {symbol} with what yfinance cannot read ({error!r})"[:300])


def _date(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
