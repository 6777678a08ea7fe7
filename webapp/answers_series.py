"""The shapes of the answers that carry prices: quotes, overview, charts, and what is missing or differs in them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel, create_model

from app.domain.indicator_names import INDICATORS
from app.domain.instruments import Exchange
from app.domain.timeframes import Timeframe
from webapp.answers import Answer, FeedState, FeedWord, MarketHours, Ms, left_out


class Book(Answer):
    """Best bid and ask."""

    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    time: Ms


class Halt(Answer):
    """A trading halt."""

    code: str
    reason: str
    time: Ms


class Quote(Answer):
    """An instrument's last price."""

    exchange: Exchange
    symbol: str
    currency: str
    price: float | None
    time: Ms | None
    delayed: bool
    book: Book | None
    halt: Halt | None


class QuotesAnswer(Answer):
    """GET /api/quotes."""

    quotes: list[Quote]


class OverviewRow(Answer):
    """An instrument's last price and last 24 hours."""

    exchange: Exchange
    title: str
    symbol: str
    price_decimals: int
    currency: str
    asset_class: Literal["crypto", "stock"]
    calendar: str
    delay_s: int
    price: float | None
    change_24h: float | None
    volume_24h: float | None
    quote_volume_24h: float | None
    high_24h: float | None
    low_24h: float | None
    sparkline: list[float]
    time: Ms | None
    book: Book | None
    halt: Halt | None
    feed: FeedWord
    market: MarketHours | None


class OverviewAnswer(Answer):
    """GET /api/overview."""

    instruments: list[OverviewRow]
    feeds: dict[Exchange, FeedState]


class Gap(Answer):
    """A stretch [start, end) that is missing in a chart and waits for repair."""

    start: Ms
    end: Ms
    cause: str
    reason: str
    found: Ms


BarState = Literal["open", "closed", "verified"]
Origin = Literal["trades", "exchange", "rollup", "flat"]


class BarAnswer(Answer):
    """A bar of a chart."""

    time: Ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trade_count: int
    state: BarState
    completed: bool
    revision: int
    origin: Origin
    delayed: Literal[True] = Field(True, json_schema_extra=left_out)


IndicatorRow: type[Answer] = create_model(
    "IndicatorRow",
    __base__=Answer,
    __doc__="The indicators of a bar, those that were asked for; null until there are enough bars.",
    time=(Ms, ...),
    **{name: (float | None, Field(None, json_schema_extra=left_out)) for name in INDICATORS},
)  # type: ignore[call-overload]


class Chart(Answer):
    """The bars and indicators of a series, oldest first."""

    symbol: str
    exchange: Exchange
    timeframe: Timeframe
    market: MarketHours | None
    feed: FeedWord
    delay_s: int
    holes: list[Gap]
    bars: list[BarAnswer]
    indicators: list[IndicatorRow]


class _Columns(Answer):
    time: list[Ms]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    quote_volume: list[float]
    trade_count: list[int]
    state: list[BarState]
    completed: list[bool]
    revision: list[int]
    origin: list[Origin]
    delayed: list[Literal[True]] = Field([], json_schema_extra=left_out)


ChartColumns: type[Answer] = create_model(
    "ChartColumns",
    __base__=_Columns,
    __doc__="The fields of a series' bars and the indicators asked for, one list each, all of the same length.",
    **{name: (list[float | None], Field([], json_schema_extra=left_out)) for name in INDICATORS},
)  # type: ignore[call-overload]


class ChartAnswer(RootModel[Chart | ChartColumns]):
    """GET /api/charts/<symbol> with `format=json`, or with `format=columns`."""


class HoleAnswer(Answer):
    """A stretch [start, end) of 1m bars that was found missing or in doubt."""

    id: int
    exchange: Exchange
    symbol: str
    start: Ms
    end: Ms
    cause: str
    reason: str
    found: Ms
    repaired: Ms | None
    attempts: int
    tried: Ms | None
    next_try: Ms | None
    error: str | None
    first_id: int | None
    last_id: int | None


class HolesAnswer(Answer):
    """GET /api/holes."""

    holes: list[HoleAnswer]
    next: int | None = Field(description="`before` of the next page; null after the last.")


class DifferenceAnswer(Answer):
    """A bar of which ours and the exchange's own were not equal; values are decimal text by field."""

    id: int
    exchange: Exchange
    symbol: str
    timeframe: Timeframe
    time: Ms
    source: str
    fields: list[str]
    ours: dict[str, str] | None
    theirs: dict[str, str] | None
    found: Ms


class DifferencesAnswer(Answer):
    """GET /api/differences."""

    differences: list[DifferenceAnswer]
    next: int | None = Field(description="`before` of the next page; null after the last.")
