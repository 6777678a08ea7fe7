"""The parameters of the API, validated; every error names its parameter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from app.domain.indicator_names import INDICATORS
from app.domain.instruments import Exchange
from app.domain.timeframes import Timeframe
from app.errors import BadInput, BadRange
from app.services.charts import ChartRequest

MAX_BARS = 5000
LAST_MS = 253_402_300_799_999  # the end of the year 9999, the last that a datetime can hold


class BadParameter(BadInput):
    """Raised when a query parameter cannot be used; its text begins with the parameter's name."""


def _time_ms(value: Any) -> Any:
    """Milliseconds as they are; an ISO 8601 date or time, UTC where it names no zone, as milliseconds."""
    if not isinstance(value, str) or value.strip().lstrip("-").isdigit():
        return value
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("use milliseconds since 1970 or an ISO 8601 time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _indicators(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    if names in ([], ["none"]):
        return ()
    unknown = [name for name in names if name not in INDICATORS]
    if unknown:
        raise ValueError(f"unknown {', '.join(map(repr, unknown))}; known are {', '.join(INDICATORS)}")
    return tuple(dict.fromkeys(names))


_MS_OR_ISO = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": LAST_MS},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
    ]
}
_NAME = f"({'|'.join(INDICATORS)})"
_LIST = {"type": "string", "pattern": f"^(none|{_NAME}(,{_NAME})*)$"}
TimeMs = Annotated[int, BeforeValidator(_time_ms), Field(ge=0, le=LAST_MS), WithJsonSchema(_MS_OR_ISO)]
Names = Annotated[tuple[str, ...], BeforeValidator(_indicators), WithJsonSchema(_LIST)]
ExchangeName = Annotated[Exchange | None, Field(description="Needed where several exchanges have the symbol.")]
Format = Literal["json", "csv", "columns"]


class Query(BaseModel):
    """The parameters of an address; those it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, values: Mapping[str, str]) -> Self:
        """The validated parameters; raises BadParameter or BadRange, the text naming the parameter."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise refused(error) from None


class ListQuery(Query):
    """The parameters of GET /api/instruments: `active=1` leaves out what is not collected."""

    active: bool = Field(False, description="Leave out what is not collected.")


class InstrumentQuery(Query):
    """Which instrument is meant; all where none is named."""

    exchange: Exchange | None = Field(None, description="Only this exchange.")
    symbol: str | None = Field(None, description="BTC/USDT, or BTC-USDT; all where none is named.")


class PageQuery(InstrumentQuery):
    """A page of a list, newest first; `before` is the `next` that the page before ended with."""

    limit: int = Field(100, ge=1, le=1000, description="At most so many, the newest.")
    before: int | None = Field(None, ge=0, le=2**63 - 1, description="The `next` of the page before.")


class HolesQuery(PageQuery):
    """The parameters of GET /api/holes: `open=1` leaves out what is repaired."""

    open: bool = Field(False, description="Leave out what is repaired.")


class SeriesQuery(Query):
    """Which series is meant: the exchange where the symbol alone does not say it, the timeframe, its indicators."""

    exchange: ExchangeName = None
    timeframe: Timeframe = Field(Timeframe.M1, description="The length of a bar.")
    indicators: Names = Field(
        INDICATORS,
        description="Names separated by commas, or `none`; all by default.",
        json_schema_extra={"default": ",".join(INDICATORS)},
    )


class ChartQuery(SeriesQuery):
    """The parameters of GET /api/charts/<symbol>."""

    limit: int = Field(1000, ge=1, le=MAX_BARS, description="At most so many bars, the newest of the range.")
    start: TimeMs | None = Field(None, description="The range begins here: ms since 1970, or ISO 8601 (UTC).")
    end: TimeMs | None = Field(None, description="The range ends before this: ms since 1970, or ISO 8601 (UTC).")
    format: Format = Field("json", description="`json`: one object a bar. `columns`: one list a field. `csv`: a file.")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            kind = "empty" if self.start == self.end else "reversed"
            raise ValueError(f"start, end: the range is {kind}; end is exclusive and must come after start")
        return self

    @property
    def request(self) -> ChartRequest:
        """What the chart service is asked."""
        return ChartRequest(self.timeframe, self.limit, self.start, self.end, self.indicators)


class LiveQuery(SeriesQuery):
    """The parameters of /ws/<symbol>.

    `since` (ms) is the newest bar a client has after a reconnect; `indicators` are those of `initial`, an update
    carries all that changed.
    """

    since: TimeMs | None = None


def refused(error: ValidationError) -> BadInput:
    """What a client is told of values that cannot be used; it begins with the name of the first."""
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return BadRange(message)
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return BadParameter(f"{name}: unknown parameter")
    return BadParameter(f"{name}: {message}")
