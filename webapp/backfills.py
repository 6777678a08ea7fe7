"""The REST API of backfills: history is asked for, looked at, ended."""

from __future__ import annotations

from typing import Annotated, Any, Self

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, Field, ValidationError, model_validator

from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import BadInput, NotKept, Unavailable, UnknownBackfill
from app.services.backfilling import Queued, Wish, moment, told, whole_bars
from app.storage import backfills
from webapp.composition import Web
from webapp.openapi import describe
from webapp.schemas import BadParameter, PageQuery, Query, TimeMs, refused

MOST_SYMBOLS = 500  # in one request
NO_BROKER = "the broker does not answer: they are noted, and begin once it is back"


class BackfillsQuery(PageQuery):
    """The parameters of GET /api/backfills: `active=1` leaves out what is over."""

    active: bool = False


class Symbol(Query):
    """An instrument that is meant; the exchange where the symbol alone does not say it."""

    exchange: Exchange | None = None
    symbol: str = Field(min_length=1, max_length=40)


class BackfillBody(Query):
    """The body of POST /api/backfills: one of `symbol`, `symbols` and `all` says whose history, `start` from when."""

    symbol: str | None = Field(None, min_length=1, max_length=40)
    symbols: Annotated[list[Symbol], Field(min_length=1, max_length=MOST_SYMBOLS)] | None = None
    every: bool = Field(False, alias="all", description="the whole watchlist, of `exchange` where it is given")
    exchange: Exchange | None = None
    timeframe: Timeframe = Timeframe.M1
    start: TimeMs
    end: TimeMs | None = None
    keep: bool = Field(False, description="also what is older than bars are kept; it stays then, of every symbol")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.symbol is not None) + (self.symbols is not None) + self.every != 1:
            raise BadParameter('symbol: say what to fetch: one of "symbol", "symbols" and "all": true')
        if self.symbols is not None and self.exchange is not None:
            raise BadParameter("exchange: it stands beside each of the symbols")
        return self


class BackfillRow(BaseModel):
    """How far a backfill is; times in ms, `next_try` of one that waits for its source, `empty_to` where it begins."""

    id: int
    exchange: str
    symbol: str
    timeframe: str
    start: int
    end: int
    state: str = Field(description="waiting, running, done, failed, cancelled")
    done: float = Field(ge=0, le=1, description="share of the range that is behind it")
    cursor: int
    bars: int
    rate: float | None = Field(description="bars a second so far")
    left_s: float | None
    note: str
    error: str | None
    asked_by: str = Field(description="user, start, daily")
    started: int | None
    updated: int
    next_try: int | None
    empty_to: int | None


class BackfillList(BaseModel):
    """A page of backfills, newest first; `next` is null after the last."""

    backfills: list[BackfillRow]
    next: int | None


class SymbolRow(BaseModel):
    """An instrument by its names."""

    exchange: str
    symbol: str


class BackfillsQueued(BaseModel):
    """The answer of POST: the backfills with their ids, and what else the request brought with it."""

    backfills: list[BackfillRow]
    too_new: list[SymbolRow] = Field(description="left out: their exchange may still add to bars so late")
    kept: list[str] = Field(description="timeframes of which all bars from the start on are kept from now on")
    note: str | None


def install(api: Blueprint, web: Web) -> None:
    """Add the routes below /api."""

    @api.post("/backfills")
    @describe(body=BackfillBody, answers={202: BackfillsQueued}, errors=(404,))
    def ask() -> tuple[Response, int]:
        """Asks for history of one symbol, of several, or of the whole watchlist; the workers fetch it."""
        body = _body()
        instruments = _instruments(web, body)
        queued = _queue(web, body, instruments)
        note = None
        try:
            web.backfilling.start()
        except Unavailable:  # the rows are written: the sweep finds them
            note = NO_BROKER
        answer = {
            "backfills": _rows(web, ids=list(queued.backfills), limit=len(queued.backfills)),
            "too_new": [{"exchange": item.exchange.value, "symbol": item.symbol} for item in queued.too_new],
            "kept": [tf.value for tf in queued.kept],
            "note": note,
        }
        return _json(answer), 202

    @api.get("/backfills")
    @describe(query=BackfillsQuery, answers={200: BackfillList}, errors=(400, 404))
    def listed() -> Response:
        """Backfills, newest first: those that wait or run and those that are over."""
        query = BackfillsQuery.read(request.args)
        exchange, symbol = query.exchange.value if query.exchange else None, query.symbol
        if symbol is not None:
            found = web.find(symbol, exchange)
            exchange, symbol = found.exchange.value, found.symbol
        rows = _rows(
            web, exchange=exchange, symbol=symbol, active_only=query.active, before=query.before, limit=query.limit
        )
        more = rows[-1]["id"] if len(rows) == query.limit else None
        return _json({"backfills": rows, "next": more})

    @api.get("/backfills/<int:backfill_id>")
    @describe(answers={200: BackfillRow}, errors=(404,))
    def one(backfill_id: int) -> Response:
        """How far a backfill is."""
        return _json(_one(web, backfill_id))

    @api.delete("/backfills/<int:backfill_id>")
    @describe(answers={200: BackfillRow}, errors=(404, 409))
    def cancel(backfill_id: int) -> Response:
        """Ends a backfill; what it stored stays. One that was cancelled before is answered alike."""
        row = _one(web, backfill_id)
        if row["state"] != "cancelled":
            with web.engine.begin() as conn:
                web.backfilling.cancel(conn, backfill_id)
            row = _one(web, backfill_id)
        return _json(row)


def _body() -> BackfillBody:
    try:
        data: Any = request.get_json()
    except RecursionError:
        raise BadInput("the body is nested too deep") from None
    if not isinstance(data, dict):
        raise BadInput("the body is no JSON object")
    try:
        return BackfillBody.model_validate(data)
    except ValidationError as error:
        raise refused(error) from None


def _instruments(web: Web, body: BackfillBody) -> list[Instrument]:
    if body.every:
        return [item for item in web.instruments(active_only=True) if body.exchange in (None, item.exchange)]
    wanted = body.symbols or [Symbol(exchange=body.exchange, symbol=body.symbol or "")]
    return [web.find(each.symbol, each.exchange.value if each.exchange else None) for each in wanted]


def _queue(web: Web, body: BackfillBody, instruments: list[Instrument]) -> Queued:
    now_ms, tf = web.now_ms(), body.timeframe
    said = (moment(body.start), "" if body.end is None else moment(body.end))
    lo_ms, hi_ms = whole_bars(tf, body.start, body.end, now_ms=now_ms, said=said)
    names = "all" if body.every else ", ".join(item.symbol for item in instruments[:5])
    wish = Wish(tf, lo_ms, hi_ms, f"the backfill of {names}{', …' if len(instruments) > 5 and not body.every else ''}")
    try:
        with web.engine.begin() as conn:
            return web.backfilling.queue(conn, instruments, wish, now_ms=now_ms, keep=body.keep)
    except NotKept as error:
        raise error.with_option('"keep": true') from None


def _rows(web: Web, **which: Any) -> list[dict[str, Any]]:
    with web.engine.connect() as conn:
        return [told(each) for each in backfills.listed(conn, **{"limit": MOST_SYMBOLS, **which})]


def _one(web: Web, backfill_id: int) -> dict[str, Any]:
    rows = _rows(web, ids=[backfill_id]) if backfill_id < 2**63 else []
    if not rows:
        raise UnknownBackfill(backfill_id)
    return rows[0]


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), mimetype="application/json")
