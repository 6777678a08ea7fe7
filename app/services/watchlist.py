"""The watchlist at run time: symbols come and go while everything runs, and none that its exchange does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.instruments import RULES, Exchange, Instrument, canonical
from app.domain.listing import Listing, unasked
from app.errors import BadInput, SourceError

STALE_S = 15.0  # a heartbeat older than this is no heartbeat

_SHAPES = {
    Exchange.BINANCE: (r"[A-Z0-9]{1,20}/[A-Z0-9]{2,20}", "BTC/USDT"),
    Exchange.ALPACA: (r"[A-Z0-9.]{1,20}", "AAPL or BRK.B"),
    Exchange.YAHOO: (r"[A-Z0-9.^=\-]{1,20}", "THYAO.IS or AAPL"),
}


class Catalog(Protocol):
    """app.storage.catalog."""

    def find(self, connection: sa.Connection, symbol: str, exchange: str | None, /) -> Instrument: ...
    def set_active(self, connection: sa.Connection, instrument_id: int, active: bool, /) -> None: ...
    def set_decimals(self, connection: sa.Connection, instrument_id: int, decimals: int, /) -> None: ...
    def add(
        self,
        connection: sa.Connection,
        exchange: str,
        symbol: str,
        /,
        *,
        price_decimals: int | None,
        calendar: str | None,
        currency: str | None,
    ) -> Instrument: ...


@dataclass(frozen=True, slots=True)
class Added:
    """The instrument, and why its exchange was not asked, where it was not."""

    instrument: Instrument
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Watchlist:
    """What is collected; `look` asks an exchange for a symbol, `hint` tells running streamers and pollers to look."""

    engine: sa.Engine
    catalog: Catalog
    look: Callable[[Exchange, str], Listing]
    hint: Callable[[], None]

    def add(self, exchange: Exchange, symbol: str, *, force: bool = False) -> Added:
        """Collects the symbol from now on; one that is there is collected again.

        Raises BadInput for what is not written like a symbol or is not traded by the exchange's own word,
        UnknownInstrument where the exchange has none such, SourceError where it cannot be asked. `force` adds what is
        not traded, and does without an exchange that cannot be asked; an unknown symbol stays refused.
        """
        name, unchecked = shaped(exchange, symbol), ""
        try:
            listing = self.look(exchange, name)
        except SourceError as error:
            if not force:
                raise
            listing, unchecked = unasked(exchange, name), str(error)
        if listing.status and not force:
            title = exchange.value.capitalize()
            raise BadInput(f"{name} is not traded: {title} gives its status as {listing.status!r}")
        with self.engine.begin() as connection:
            instrument = self.catalog.add(
                connection,
                exchange.value,
                name,
                price_decimals=listing.price_decimals,
                calendar=listing.calendar,
                currency=listing.currency,
            )
        self.hint()
        return Added(instrument, unchecked)

    def activate(self, symbol: str, exchange: str | None, *, force: bool = False) -> Added:
        """Collects a symbol that is known already; raises as add does, and UnknownInstrument for one that is not."""
        with self.engine.begin() as connection:
            item = self.catalog.find(connection, symbol, exchange)
        return self.add(item.exchange, item.symbol, force=force)

    def deactivate(self, symbol: str, exchange: str | None) -> Instrument:
        """Collects the symbol no more; its bars stay. Raises UnknownInstrument or AmbiguousSymbol."""
        with self.engine.begin() as connection:
            item = self.catalog.find(connection, symbol, exchange)
            self.catalog.set_active(connection, item.id, False)
        self.hint()
        return replace(item, active=False)

    def show_decimals(self, item: Instrument, decimals: int) -> Instrument:
        """Has the instrument's prices shown with so many decimals, until its exchange is asked again."""
        with self.engine.begin() as connection:
            self.catalog.set_decimals(connection, item.id, decimals)
        return replace(item, price_decimals=decimals)


def shaped(exchange: Exchange, symbol: str) -> str:
    """The canonical symbol; raises BadInput for what no symbol of the exchange looks like."""
    name = canonical(symbol) if exchange is Exchange.BINANCE else symbol.strip().upper()
    pattern, example = _SHAPES[exchange]
    if not re.fullmatch(pattern, name):
        raise BadInput(f"{symbol!r} is not a symbol of {exchange.value}: write it like {example}")
    return name


def feed_of(instrument: Instrument, beats: Mapping[str, Mapping[str, Any]]) -> str:
    """What the heartbeats (app.cache.health.read) say of the feed the instrument comes over."""
    if not instrument.active:
        return "-"
    for beat in beats.values():
        if beat.get("exchange") == instrument.exchange.value and _carries(beat, instrument.id):
            return str(beat.get("feed", "")) if beat["age_s"] <= STALE_S else f"not heard of for {beat['age_s']:.0f} s"
    return "no streamer" if RULES[instrument.exchange].streamed else "no poller"


def _carries(beat: Mapping[str, Any], instrument_id: int) -> bool:
    k, _, n = str(beat.get("shard", "0/1")).partition("/")
    return instrument_id % int(n or 1) == int(k)
