"""What clients of /ws may say, validated: an error says what was wrong, and what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from app.domain.indicator_names import INDICATORS
from app.domain.instruments import RULES, Exchange, Instrument, canonical
from app.domain.timeframes import Timeframe
from app.errors import BadInput
from webapp.channels import OVERVIEW, channel_name
from webapp.schemas import MAX_BARS, Names, TimeMs

FORMS = '"binance:BTC/USDT@1m", "binance:*@1m" or "overview"'
MAX_NAME = 100  # characters of a channel's name

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
Id = Annotated[str, StringConstraints(max_length=MAX_NAME)] | int


class BadMessage(BadInput):
    """Raised when a message cannot be understood; its text says where, and what is known."""

    def __init__(self, text: str, *, id: Id | None = None) -> None:
        super().__init__(text)
        self.id = id


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Id | None = None


def _joined(value: Any) -> Any:
    """A list of indicators as an address would name them, since their names are checked there."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return ",".join(value)
    return value


class Subscribe(_Message):
    """Asks for channels; naming one again replaces what was asked of it."""

    action: Literal["subscribe"]
    channels: list[Name] = Field(min_length=1)
    indicators: Annotated[Names, Field(strict=False), BeforeValidator(_joined)] = INDICATORS
    since: dict[str, TimeMs] = Field(default_factory=dict)
    initial: bool = True
    limit: int | None = Field(None, ge=1, le=MAX_BARS)
    completed: bool = False


class Unsubscribe(_Message):
    """Gives channels back, as they were named when they were asked for."""

    action: Literal["unsubscribe"]
    channels: list[Name] = Field(min_length=1)


class ListChannels(_Message):
    """Asks which channels there are now."""

    action: Literal["list"]


class Ping(_Message):
    """Asks for a pong; {"type": "ping"} is understood as well."""

    action: Literal["ping"]


Message = Subscribe | Unsubscribe | ListChannels | Ping
_MESSAGES: dict[str, type[Message]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "list": ListChannels,
    "ping": Ping,
}
KNOWN = ", ".join(_MESSAGES)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel's name, taken apart; without a symbol it stands for all active ones of the exchange."""

    exchange: Exchange
    symbol: str | None
    timeframe: Timeframe

    @property
    def name(self) -> str:
        """The wildcard as it is told to clients."""
        return f"{self.exchange.value}:{self.symbol or '*'}@{self.timeframe.value}"


def read(text: str | bytes) -> Message:
    """The message; raises BadMessage."""
    if isinstance(text, bytes):
        raise BadMessage("binary: send JSON as a text message")
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadMessage(f'not an object; send {{"action": …}} with one of {KNOWN}')
    given = body.get("id")
    known_id = given if isinstance(given, int | str) and len(str(given)) <= MAX_NAME else None
    if "type" in body and "action" not in body:
        body["action"] = body.pop("type")  # {"type": "ping"}, in the form of what is answered
    action = body.get("action")
    if not isinstance(action, str) or action not in _MESSAGES:
        raise BadMessage(f"action: unknown {_short(action)}; known are {KNOWN}", id=known_id)
    try:
        return _MESSAGES[action].model_validate(body)
    except ValidationError as error:
        raise BadMessage(_first(error), id=known_id) from None


def parse_name(name: str) -> Wanted | None:
    """What a channel's name means, None for the overview; raises BadMessage."""
    if name.strip().lower() == OVERVIEW:
        return None
    exchange, colon, rest = name.strip().partition(":")
    symbol, at, timeframe = rest.rpartition("@")
    if not (colon and at and symbol):
        raise BadMessage(f"channels: {_short(name)} names no channel; write it as {FORMS}")
    try:
        where = Exchange(exchange.lower())
    except ValueError:
        known = ", ".join(one.value for one in RULES)
        raise BadMessage(f"channels: unknown exchange in {_short(name)}; known are {known}") from None
    try:
        length = Timeframe(timeframe)
    except ValueError:
        known = ", ".join(one.value for one in Timeframe)
        raise BadMessage(f"channels: unknown timeframe in {_short(name)}; known are {known}") from None
    return Wanted(where, None if symbol == "*" else symbol.strip().upper(), length)


class Directory:
    """The watchlist by what clients write."""

    def __init__(self, instruments: list[Instrument]) -> None:
        self._known = {(item.exchange, item.symbol): item for item in instruments}

    def find(self, wanted: Wanted) -> Instrument | None:
        """The instrument a name means, None where the exchange has no such symbol."""
        symbol = wanted.symbol or ""
        exact = self._known.get((wanted.exchange, symbol))
        return exact or self._known.get((wanted.exchange, canonical(symbol)))

    def name(self, text: str) -> str:
        """A channel's name as it is told to clients; the text itself where it means none."""
        try:
            wanted = parse_name(text)
        except BadMessage:
            return text
        if wanted is None:
            return OVERVIEW
        if wanted.symbol is None:
            return wanted.name
        found = self.find(wanted)
        return text if found is None else channel_name(found, wanted.timeframe)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place[:MAX_NAME]}: unknown field"
    text = str(first["msg"]).removeprefix("Value error, ")
    return f"{place[:MAX_NAME]}: {text}" if place else text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_NAME else text[:MAX_NAME] + "…"
