"""The screener over REST: conditions in the address, the instruments that fit as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.domain.instruments import RULES, Exchange
from app.domain.screen_fields import Unit, choices
from app.domain.screening import Condition, Order, Term, parse_conditions, parse_order, parse_terms
from app.domain.timeframes import Timeframe
from app.errors import BadInput
from app.services.screener import Found, Result, Screen
from webapp.composition import Web, market_facts
from webapp.openapi import describe
from webapp.schemas import Query

MAX_ROWS = 5000
TEXT = WithJsonSchema({"type": "string"})  # what it is read from


def _read(parse: Any) -> BeforeValidator:
    """A parameter read by a parser of the domain, whose words are kept."""

    def read(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except BadInput as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


class ScreenQuery(Query):
    """The parameters of GET /api/screener."""

    model_config = {**Query.model_config, "arbitrary_types_allowed": True}

    timeframe: Timeframe = Timeframe.H1
    where: Annotated[tuple[Condition, ...], _read(parse_conditions), TEXT] = Field(
        (),
        description="Conditions that must all hold, separated by commas: rsi_14<30,close>sma_200",
        json_schema_extra={"default": ""},
    )
    sort: Annotated[Order | None, _read(parse_order), TEXT] = Field(
        None, description="A field or term, with - before it from high to low: -change_24h"
    )
    fields: Annotated[tuple[Term, ...], _read(parse_terms), TEXT] = Field(
        (),
        description="Fields or terms shown beside those of where and sort, separated by commas",
        json_schema_extra={"default": ""},
    )
    exchange: Exchange | None = None
    limit: int = Field(100, ge=1, le=MAX_ROWS)

    @property
    def screen(self) -> Screen:
        """What the service is asked."""
        exchange = self.exchange.value if self.exchange else None
        return Screen(self.timeframe, self.where, self.sort, self.fields, exchange, self.limit)


class MarketHours(BaseModel):
    """Whether a market is open, until when or from when on (ms)."""

    calendar: str
    state: Literal["open", "closed", "unknown"]
    until: int | None
    opens: int | None


class ScreenRow(BaseModel):
    """An instrument that fits; `time` is the start (ms) of the completed bar it was judged by."""

    exchange: Exchange
    title: str
    symbol: str
    currency: str
    asset_class: str
    price_decimals: int
    time: int | None
    values: dict[str, float | None]
    market: MarketHours | None
    feed: str
    delay_s: int


class ScreenAnswer(BaseModel):
    """The answer of GET /api/screener: the first `limit` of `total` that fit, out of `of` active instruments."""

    timeframe: Timeframe
    where: list[str]
    sort: str | None
    fields: list[str]
    total: int
    of: int
    instruments: list[ScreenRow]


class ScreenFieldAnswer(BaseModel):
    """A field of screens."""

    name: str
    label: str
    unit: Unit
    group: str


class PresetAnswer(BaseModel):
    """A ready-made screen."""

    id: str
    title: str
    where: str
    sort: str


class ScreenChoices(BaseModel):
    """The answer of GET /api/screener/fields."""

    fields: list[ScreenFieldAnswer]
    operators: list[str]
    presets: list[PresetAnswer]


def install(api: Blueprint, web: Web) -> None:
    """Add the routes below /api."""

    @api.get("/screener")
    @describe(query=ScreenQuery, answers={200: ScreenAnswer}, errors=(400,))
    def screener() -> Response:
        """The active instruments that fit all conditions, with the values asked for."""
        screen = ScreenQuery.read(request.args).screen
        found = web.screener.screen(web.instruments(active_only=True), screen)
        return _json(answer(web, screen, found))

    @api.get("/screener/fields")
    @describe(answers={200: ScreenChoices}, tag="screener")
    def screener_fields() -> Response:
        """What can be screened by: fields, operators, and the screens people ask for most."""
        return _json(choices())


def answer(web: Web, screen: Screen, found: Result) -> dict[str, Any]:
    """A ScreenAnswer as JSON."""
    return {
        "timeframe": screen.tf.value,
        "where": [str(condition) for condition in screen.conditions],
        "sort": None if screen.order is None else str(screen.order),
        "fields": [str(term) for term in screen.terms],
        "total": found.total,
        "of": found.of,
        "instruments": [_row(web, row) for row in found.rows],
    }


def _row(web: Web, found: Found) -> dict[str, Any]:
    item = found.instrument
    return {
        "exchange": item.exchange.value,
        "title": RULES[item.exchange].title,
        "symbol": item.symbol,
        "currency": item.currency,
        "asset_class": item.asset_class,
        "price_decimals": item.price_decimals,
        "time": found.time_ms,
        "values": found.values,
        **market_facts(web.watch, item),
    }


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), mimetype="application/json")
