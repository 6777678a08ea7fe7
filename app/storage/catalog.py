"""The watchlist: instruments in the database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.instruments import RULES, Exchange, Instrument, canonical, describe
from app.errors import AmbiguousSymbol, UnknownInstrument
from app.storage.tables import instruments as table

DEFAULT_DECIMALS = 8


def exchange_named(name: str) -> Exchange:
    """The exchange a user named; raises UnknownInstrument listing the known ones."""
    try:
        return Exchange(name.strip().lower())
    except ValueError:
        known = ", ".join(exchange.value for exchange in Exchange)
        raise UnknownInstrument(f"unknown exchange {name!r}; known are {known}") from None


def instruments(connection: sa.Connection, *, active_only: bool = False) -> list[Instrument]:
    """All instruments, by id."""
    query = sa.select(table).order_by(table.c.id)
    if active_only:
        query = query.where(table.c.active)
    return [_instrument(row) for row in connection.execute(query)]


def find(connection: sa.Connection, symbol: str, exchange: str | None = None) -> Instrument:
    """The instrument a user means; raises UnknownInstrument, or AmbiguousSymbol naming the exchanges."""
    wanted = [symbol.strip().upper(), canonical(symbol)]
    query = sa.select(table).where(table.c.symbol.in_(wanted)).order_by(table.c.id)
    if exchange:
        query = query.where(table.c.exchange == exchange_named(exchange).value)
    found = [_instrument(row) for row in connection.execute(query)]
    exact = [item for item in found if item.symbol == wanted[0]] or found
    if not exact:
        where = f" on {exchange}" if exchange else ""
        raise UnknownInstrument(f"unknown symbol {symbol!r}{where}: `instruments list` shows the watchlist")
    if len(exact) > 1:
        names = ", ".join(item.exchange.value for item in exact)
        raise AmbiguousSymbol(f"{exact[0].symbol} is on several exchanges: {names}; name the exchange")
    return exact[0]


def get(connection: sa.Connection, instrument_id: int) -> Instrument | None:
    """The instrument with this id."""
    row = connection.execute(sa.select(table).where(table.c.id == instrument_id)).first()
    return None if row is None else _instrument(row)


def add(
    connection: sa.Connection,
    exchange: str,
    symbol: str,
    *,
    active: bool = True,
    price_decimals: int | None = None,
    calendar: str | None = None,
    currency: str | None = None,
) -> Instrument:
    """The instrument, added where it is not there yet.

    One that is there takes what is given of decimals, calendar and currency; the rest stays, `active` may rise.
    """
    where = exchange_named(exchange)
    name = canonical(symbol) if where is Exchange.BINANCE else symbol.strip().upper()
    wire, asset_class, usual = describe(where, name)
    given = {"price_decimals": price_decimals, "calendar": calendar, "currency": currency}
    given = {column: value for column, value in given.items() if value is not None}
    values: dict[str, Any] = {
        "exchange": where.value,
        "symbol": name,
        "wire_symbol": wire,
        "asset_class": asset_class,
        "currency": usual,
        "calendar": RULES[where].calendar,
        "active": active,
        "price_decimals": DEFAULT_DECIMALS,
        **given,
    }
    statement = insert(table).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["exchange", "symbol"], set_={**given, "active": table.c.active | statement.excluded.active}
    )
    return _instrument(connection.execute(statement.returning(table)).one())


def set_active(connection: sa.Connection, instrument_id: int, active: bool) -> None:
    """Says whether streamers and pollers collect the instrument; its row stays, since bars are keyed by its id."""
    connection.execute(sa.update(table).where(table.c.id == instrument_id).values(active=active))


def set_decimals(connection: sa.Connection, instrument_id: int, decimals: int) -> None:
    """Says with how many decimals the instrument's prices are shown."""
    connection.execute(sa.update(table).where(table.c.id == instrument_id).values(price_decimals=decimals))


def _instrument(row: sa.Row[Any]) -> Instrument:
    fields = row._asdict()
    fields.pop("added")
    return Instrument(**{**fields, "exchange": Exchange(fields["exchange"])})
