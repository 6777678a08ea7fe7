"""What a client may send in a body: one JSON object, validated; every error names its field."""

from __future__ import annotations

from typing import Annotated, Any, Self

from flask import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from werkzeug.exceptions import UnsupportedMediaType

from app.domain.instruments import Exchange
from app.errors import BadInput
from webapp.answers import left_out

MAX_DECIMALS = 10


class BadBody(BadInput):
    """Raised when what was sent is no JSON object, or one of its fields cannot be used."""


class Body(BaseModel):
    """The JSON object of a request; fields it does not know are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def read(cls, request: Request) -> Self:
        """The validated body; raises BadBody, or UnsupportedMediaType where it does not say that it is JSON."""
        if not request.is_json:
            raise UnsupportedMediaType("send the body as JSON, with Content-Type: application/json")
        try:
            return cls.model_validate_json(request.get_data(cache=False))
        except ValidationError as error:
            raise BadBody(_said(error)) from None


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # to JSON, 2.0 is an integer


Decimals = Annotated[
    int, BeforeValidator(_whole), Field(ge=0, le=MAX_DECIMALS, description="How many decimals prices are shown with.")
]


class NewInstrument(Body):
    """What POST /api/instruments takes."""

    exchange: Exchange
    symbol: str = Field(min_length=1, max_length=41, examples=["XRP/USDT"])


class InstrumentChange(Body):
    """What PATCH /api/instruments/<exchange>/<symbol> takes; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    active: bool = Field(False, description="Whether it is collected.", json_schema_extra=left_out)
    price_decimals: Decimals = Field(0, json_schema_extra=left_out)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name what is to change: active, price_decimals or both")
        return self


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        message = "unknown field"
    return f"{name}: {message}" if name else message
