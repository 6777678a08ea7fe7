"""What Alpaca says, as values: the messages of its stream and the rows of its REST answers (app.wire.alpaca)."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import NamedTuple

from app.domain.official import OfficialBar
from app.domain.timeframes import Timeframe

_EXACT = Context(prec=60)


class Print(NamedTuple):
    """A trade as the tape reports it (T = t); price and size in 1e-8 units."""

    symbol: str
    time_us: int
    id: int
    exchange: str
    price_e8: int
    size_e8: int
    conditions: tuple[str, ...]
    tape: str


class Quote(NamedTuple):
    """The best bid and ask (T = q); sizes as the exchange counts them."""

    symbol: str
    time_us: int
    bid_exchange: str
    bid: float
    bid_size: float
    ask_exchange: str
    ask: float
    ask_size: float
    conditions: tuple[str, ...]
    tape: str


class BarRow(NamedTuple):
    """A bar of the stream or of REST; `time_ms` is its start as the exchange labels it."""

    symbol: str
    time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    vwap: Decimal
    trade_count: int

    @property
    def quote_volume(self) -> Decimal:
        """The turnover, as far as the exchange's rounded vwap tells it."""
        return _EXACT.multiply(self.vwap, self.volume)

    def official(
        self, instrument_id: int, timeframe: Timeframe = Timeframe.M1, *, revised: bool = False
    ) -> OfficialBar:
        """The exchange's word on the bar of an instrument."""
        return OfficialBar(
            instrument_id, timeframe, self.time_ms, self.open, self.high, self.low, self.close, self.volume,
            self.quote_volume, Decimal(0), self.trade_count, revised=revised,
        )  # fmt: skip


class BarEvent(NamedTuple):
    """A bar of the stream: `b` a minute that ended, `u` the same again with late trades, `d` the day so far."""

    kind: str
    bar: BarRow

    @property
    def symbol(self) -> str:
        """The bar's symbol."""
        return self.bar.symbol


class Side(NamedTuple):
    """One side of a correction: the print as it was, or as it should have been."""

    id: int
    price_e8: int
    size_e8: int
    conditions: tuple[str, ...]


class Correction(NamedTuple):
    """A print was wrong (T = c)."""

    symbol: str
    time_us: int
    exchange: str
    original: Side
    corrected: Side
    tape: str


class Cancel(NamedTuple):
    """A print never was (T = x); `action` C for a cancel, E for an error."""

    symbol: str
    time_us: int
    id: int
    exchange: str
    price_e8: int
    size_e8: int
    action: str
    tape: str


class Status(NamedTuple):
    """A trading status (T = s): halts and resumptions, codes by tape."""

    symbol: str
    time_us: int
    code: str
    message: str
    reason_code: str
    reason: str
    tape: str


class Success(NamedTuple):
    """`connected` or `authenticated`."""

    message: str


class Refusal(NamedTuple):
    """The server refused something (T = error)."""

    code: int
    message: str


class Subscription(NamedTuple):
    """What the connection listens to now: symbols by channel."""

    channels: dict[str, tuple[str, ...]]


class Other(NamedTuple):
    """A message we do not use."""

    kind: str


type Message = Print | Quote | BarEvent | Correction | Cancel | Status | Success | Refusal | Subscription | Other


class Asset(NamedTuple):
    """What Alpaca's list of assets says of a symbol."""

    symbol: str
    name: str
    exchange: str
    status: str  # active, inactive
    tradable: bool
