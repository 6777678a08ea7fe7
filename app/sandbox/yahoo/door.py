"""Yahoo's door: the cookie page, the crumb, and `/v8/finance/chart/{symbol}` as Yahoo answers it.

Bars come `delay_s` late, prices carry the noise of 32-bit floats, some quiet minutes are rows of nulls and others no
rows at all, and the bar that is not over comes last under the time of its last trade. Hours begin with the session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
from aiohttp import web

from app.sandbox.stocks.hours import Session
from app.sandbox.stocks.market import StockMarket
from app.sandbox.stocks.series import DAY_MS, MINUTE_MS, StockSeries
from app.sandbox.truth import TrueBar, longer_bars
from app.sandbox.yahoo.ask import NOT_FOUND, Ask, Refused, no_data, read_ask
from app.wire.yahoo import Meta, Period, Row, build_chart, build_refusal

COOKIE, CRUMB = "d=sandbox", "sandbox.crumb"
ZONES = {"XNYS": "America/New_York", "XIST": "Europe/Istanbul"}
VENUES = {
    "NASDAQ": ("NMS", "NasdaqGS"),
    "NYSE": ("NYQ", "NYSE"),
    "ARCA": ("PCX", "NYSEArca"),
    "IST": ("IST", "Istanbul"),
}
NULLS = 3  # of so many quiet minutes one is a row of nulls
REVISED_MS = 3 * MINUTE_MS  # what the fault `revise` touches
DAY_US = 86_400_000_000
WEEKS_US = 14 * DAY_US


class YahooDoor:
    """Answers from the stock market as it stood `delay_s` before the exchange's clock."""

    def __init__(
        self,
        market: StockMarket,
        *,
        now_us: Callable[[], int],
        delay_s: float = 0.0,
        revise: Callable[[], bool] = lambda: False,
    ) -> None:
        """`revise` says whether the newest bars of an answer have only half of their volume yet."""
        self._market, self._now_us, self._revise = market, now_us, revise
        self._delay_us = int(delay_s * 1_000_000)

    def routes(self) -> list[web.RouteDef]:
        """The paths of the door."""
        return [
            web.get("/", self._cookie),
            web.get("/v1/test/getcrumb", self._crumb),
            web.get("/v8/finance/chart/{symbol}", self._chart),
        ]

    async def _cookie(self, request: web.Request) -> web.Response:
        answer = web.Response(text="", status=404)  # as fc.yahoo.com does
        answer.set_cookie("A3", COOKIE)
        return answer

    async def _crumb(self, request: web.Request) -> web.Response:
        return web.Response(text=CRUMB)

    async def _chart(self, request: web.Request) -> web.Response:
        symbol, now_us = request.match_info["symbol"].upper(), self._now_us()
        try:
            series = self._market.series.get(symbol)
            if series is None:
                raise Refused(404, "Not Found", NOT_FOUND)
            ask = read_ask(request.query, now_s=now_us // 1_000_000)
            seen_us = now_us - self._delay_us
            if ask.minutes * MINUTE_MS == DAY_MS:
                span = {"start_ms": ask.start_s * 1000, "end_ms": ask.end_s * 1000}
                await self._market.warm_days(symbol, **span, now_us=seen_us)
            body, status = self._answer(series, ask, seen_us), 200
        except Refused as refusal:
            body, status = build_refusal(refusal.code, refusal.description), refusal.status
        return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")

    def _answer(self, series: StockSeries, ask: Ask, seen_us: int) -> dict[str, object]:
        daily = ask.minutes * MINUTE_MS == DAY_MS
        oldest_us = series.oldest_day_us if daily else series.oldest_us
        stretch_us = max(ask.start_s * 1_000_000, oldest_us), min(ask.end_s * 1_000_000, seen_us)
        touched = series.hours.between(*stretch_us)
        if not touched and not ask.span:
            raise no_data(ask)
        meta = self._meta(series, _current(series, seen_us), seen_us)
        if daily:
            rows = self._days(series, ask, seen_us)
            return build_chart(meta, rows, interval=ask.interval, span=ask.span)
        rows = self._minutes(series, touched, ask, seen_us)
        return build_chart(meta, rows, interval=ask.interval, periods=list(map(_period, touched)), span=ask.span)

    def _meta(self, series: StockSeries, current: Session | None, seen_us: int) -> Meta:
        listing = series.listing
        zone = ZONES[listing.calendar]
        moment = datetime.fromtimestamp(seen_us / 1_000_000, UTC).astimezone(ZoneInfo(zone))
        offset = moment.utcoffset()
        price, time_s = self._last(series, current, seen_us)
        return Meta(
            listing.symbol, listing.currency, *VENUES[listing.venue], listing.name, zone,
            0 if offset is None else int(offset.total_seconds()), 2, price, time_s,
            None if current is None else _period(current),
        )  # fmt: skip

    def _last(self, series: StockSeries, current: Session | None, seen_us: int) -> tuple[float | None, int | None]:
        """The last price and its time, of the current session or the one before."""
        lo_us = (current.date_us if current is not None else seen_us // DAY_US * DAY_US) - WEEKS_US
        for session in reversed(series.hours.between(lo_us, seen_us)):
            bar = series.day(session, seen_us)
            if bar is not None:
                return _price(bar.close), min(seen_us, session.regular_us[1]) // 1_000_000
        return None, None

    def _days(self, series: StockSeries, ask: Ask, seen_us: int) -> list[Row]:
        rows = []
        for session in series.hours.between(ask.start_s * 1_000_000, min(ask.end_s * 1_000_000, seen_us)):
            opens_us = session.open_us
            if session.date_us < series.oldest_day_us or not ask.start_s <= opens_us // 1_000_000 < ask.end_s:
                continue
            bar = series.day(session, seen_us)
            if bar is not None:
                time_us = opens_us if session.over_us <= seen_us else max(opens_us, seen_us)
                rows.append(_row(bar, time_us // 1_000_000))
        return rows

    def _minutes(self, series: StockSeries, touched: list[Session], ask: Ask, seen_us: int) -> list[Row]:
        start_ms, end_ms = ask.start_s * 1000, min(ask.end_s * 1000, seen_us // 1000 + 1)
        # A bar that begins inside the stretch is told whole.
        span = {"start_ms": start_ms, "end_ms": end_ms + (ask.minutes - 1) * MINUTE_MS}
        symbol = series.listing.symbol
        minutes = self._market.bars(symbol, MINUTE_MS, **span, now_us=seen_us, extended=ask.prepost)
        rows: list[Row] = []
        seen_ms, half = seen_us // 1000, self._revise()
        for session in touched:
            own = [bar for bar in minutes if session.lo_us <= bar.time_ms * 1000 < session.hi_us]
            for bar in _long(own, session, ask.minutes):
                if not start_ms <= bar.time_ms < end_ms:
                    continue
                end = bar.time_ms + ask.minutes * MINUTE_MS
                if ask.minutes == 1 and rows:
                    opens_us = session.lo_us if ask.prepost else session.regular_us[0]
                    rows += _nulls(max(rows[-1].time_s * 1000 + MINUTE_MS, opens_us // 1000), bar.time_ms)
                row = _row(bar, (bar.time_ms if end <= seen_ms else seen_ms) // 1000)
                if half and end > seen_ms - REVISED_MS:
                    row = row._replace(volume=(row.volume or 0) // 2)
                rows.append(row)
        return rows


def _current(series: StockSeries, seen_us: int) -> Session | None:
    """The session of the market's day: the newest that has begun, else the next."""
    begun = series.hours.between(seen_us - WEEKS_US, seen_us)
    return begun[-1] if begun else series.hours.following(seen_us)


def _period(session: Session) -> Period:
    lo_us, hi_us = session.regular_us
    return Period(lo_us // 1_000_000, hi_us // 1_000_000)


def _long(minutes: list[TrueBar], session: Session, length: int) -> list[TrueBar]:
    """Bars of `length` minutes; those of an hour and more begin with the session."""
    if length == 1:
        return minutes
    length_ms = length * MINUTE_MS
    shift_ms = session.open_us // 1000 % length_ms if length >= 60 else 0
    shifted = [bar._replace(time_ms=bar.time_ms - shift_ms) for bar in minutes]
    return [bar._replace(time_ms=bar.time_ms + shift_ms) for bar in longer_bars(shifted, length_ms)]


def _nulls(first_ms: int, next_ms: int) -> list[Row]:
    """Rows without prices for some of the quiet minutes before a bar."""
    quiet = range(first_ms, next_ms, MINUTE_MS)
    return [Row(at // 1000, None, None, None, None, None) for at in quiet if at // MINUTE_MS % NULLS == 0]


def _row(bar: TrueBar, time_s: int) -> Row:
    return Row(time_s, _price(bar.open), _price(bar.high), _price(bar.low), _price(bar.close), bar.volume // 10**8)


def _price(units: int) -> float:
    """The price as a 32-bit float says it."""
    noisy: float = struct.unpack("f", struct.pack("f", units / 10**8))[0]
    return noisy
