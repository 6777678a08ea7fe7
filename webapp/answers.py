"""The shapes of the API's answers, as its OpenAPI document states them; tests hold real answers against them.

Nothing is built through these models: an answer is encoded once, by whoever has its data.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.instruments import Exchange
from app.domain.timeframes import Timeframe

Ms = Annotated[int, Field(description="Milliseconds since 1970 UTC.")]
FeedWord = Literal["connected", "reconnecting", "down", "refused", "closed", "idle", "no_key", "none"]


def left_out(schema: dict[str, Any]) -> None:
    """For json_schema_extra: the field may be missing, and has no value then."""
    schema.pop("default", None)


class Answer(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Fault(Answer):
    """What went wrong: a word for programs and a sentence for people."""

    code: str = Field(examples=["bad_parameter"])
    message: str = Field(examples=["limit: Input should be less than or equal to 5000"])


class Failure(Fault):
    """What went wrong with a request."""

    request_id: str = Field(examples=["6f1c0d2a4b1e9035"], description="As X-Request-ID; the log has it too.")


class ErrorAnswer(Answer):
    """The body of every error."""

    error: Failure


class MarketHours(Answer):
    """Whether a market is open now, until when, or from when on."""

    calendar: str
    state: Literal["open", "closed", "unknown"]
    until: Ms | None
    opens: Ms | None


class FeedState(Answer):
    """How an exchange's data comes in."""

    feed: FeedWord
    since: Ms | None
    at: Ms | None
    error: str | None
    delay_s: int
    missing: str | None = Field(description="The settings that are missing, where the feed is `no_key`.")
    markets: dict[str, MarketHours]


class Symbol(Answer):
    """An instrument as its exchange lists it."""

    symbol: str
    active: bool
    price_decimals: int
    currency: str
    asset_class: Literal["crypto", "stock"]
    calendar: str


class SymbolGroup(Answer):
    """The instruments of an exchange."""

    exchange: Exchange
    title: str
    symbols: list[Symbol]


class SymbolsAnswer(Answer):
    """GET /api/symbols."""

    exchanges: list[SymbolGroup]


class InstrumentAnswer(Symbol):
    """An instrument with the hours of its market and the state of its feed."""

    exchange: Exchange
    title: str
    feed: FeedWord
    delay_s: int
    market: MarketHours | None


class InstrumentsAnswer(Answer):
    """GET /api/instruments."""

    instruments: list[InstrumentAnswer]


class Counts(Answer):
    """How many instruments there are."""

    active: int
    known: int


class ExchangeState(FeedState):
    """An exchange, what it offers, and how it is now."""

    exchange: Exchange
    title: str
    calendars: list[str]
    streamed: bool = Field(description="Whether trades stream in; else bars are polled.")
    timeframes: list[Timeframe]
    instruments: Counts


class ExchangesAnswer(Answer):
    """GET /api/exchanges."""

    exchanges: list[ExchangeState]


class Reached(Answer):
    """Whether a server answers: how long it took, or what went wrong."""

    ok: bool
    ms: float = Field(0.0, json_schema_extra=left_out)
    cause: str = Field("", json_schema_extra=left_out)
    effect: str = Field("", json_schema_extra=left_out)


class LiveFacts(Answer):
    """The live updates of this web process."""

    clients: int
    subscribed: bool


class Replica(Answer):
    """The replica that the web reads from."""

    ok: bool
    behind_ms: float | None = Field(None, json_schema_extra=left_out, description="How far it is behind the primary.")
    cause: str = Field("", json_schema_extra=left_out, description="Why the web reads from the primary.")
    effect: str = Field("", json_schema_extra=left_out)


class HealthAnswer(Answer):
    """GET /api/health."""

    status: Literal["ok", "degraded", "down"]
    database: Reached
    redis: Reached
    live: LiveFacts
    feeds: dict[Exchange, FeedState]
    processes: dict[str, dict[str, Any]]
    counters: dict[str, int]
    replica: Replica = Field(Replica(ok=True), json_schema_extra=left_out, description="With DATABASE_READ_URL only.")
    error: Fault = Field(Fault(code="", message=""), json_schema_extra=left_out)


class LiveAnswer(Answer):
    """GET /api/health/live."""

    status: Literal["live"]


class ReadyAnswer(Answer):
    """GET /api/health/ready."""

    status: Literal["ready", "degraded"]
    effect: str | None = Field(description="What does not work, where it is degraded.")
